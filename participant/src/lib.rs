//! What a saga participant is built on: one transaction per batch of commands, replies that replay.
