//! Real servers in real processes: started, stopped, killed, fetched.
#![cfg(test)]

mod fetch;
mod server;
mod support;
mod test_server;
