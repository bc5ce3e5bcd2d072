//! The local stack as people start it: the real program with everything it starts.

#![cfg(test)]

mod command_line;
mod recovery;
mod stack;
mod support;
