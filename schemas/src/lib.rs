//! Avro schemas of every message, and the codec that reads and writes them.
