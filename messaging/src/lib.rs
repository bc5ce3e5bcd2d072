//! Kafka: consumers, producers, headers, topics. Knows no saga by name.
