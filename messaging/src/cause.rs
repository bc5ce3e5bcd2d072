//! librdkafka's own errors, as the source of ours.

use std::error::Error;
use std::fmt;

use rdkafka::error::KafkaError as ClientError;

/// What librdkafka said. Boxed: it is large, and errors are rare.
pub struct Cause(Box<ClientError>);

impl From<ClientError> for Cause {
    fn from(error: ClientError) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
