//! What each program of a stack is told.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::Stack;
use crate::kafka::{COMMAND_PARTITIONS, SHARDS, TOPIC_PARTITIONS};
use crate::process::{Environment, Program};
use crate::recipes::{definitions_folder, schemas_folder};

impl Stack {
    /// The settings of a program of this stack.
    pub fn environment(&self, program: Program) -> Environment {
        let kafka = self.kafka().service_settings();
        let mut settings = vec![
            ("DATABASE_URL", (self.reach)(program, program.name())),
            ("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers),
            ("LOG_FORMAT", "text".to_owned()),
            ("NO_COLOR", "1".to_owned()),
            ("TOPIC_PARTITIONS", TOPIC_PARTITIONS.to_string()),
            ("TOPIC_REPLICATION", "1".to_owned()),
            ("CRASH_AT", format!("@{}", self.crash_file(program).display())),
        ];
        settings.extend(kafka.incarnation.map(|incarnation| ("BROKER_INCARNATION", incarnation)));
        let properties = self.kafka_properties();
        if properties.is_file() {
            settings.push(("KAFKA_PROPERTIES", properties.display().to_string()));
        }
        let forced = self.options.forced_outcomes.to_string();
        settings.extend(match program {
            Program::Orchestrator => vec![
                ("HTTP_ADDR", "127.0.0.1:0".to_owned()),
                ("SHARDS", SHARDS.to_string()),
                ("COMMAND_PARTITIONS", COMMAND_PARTITIONS.to_string()),
                ("DEFINITIONS_DIR", definitions_folder().display().to_string()),
                ("SCHEMAS_DIR", schemas_folder().display().to_string()),
                ("ALLOW_FORCED_OUTCOMES", forced),
            ],
            Program::BookingWorker => vec![],
            Program::PaymentWorker => vec![
                ("ALLOW_FORCED_OUTCOMES", forced),
                ("SIMULATED_LATENCY_MS", self.options.gateway_latency_ms.to_string()),
            ],
        });
        settings.extend(super::lock(&self.told).iter().cloned());
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Properties of the services' Kafka clients, if somebody writes them there before the services start.
    pub fn kafka_properties(&self) -> PathBuf {
        self.folder.join("kafka.properties")
    }

    /// Where it is said at which point the processes of a program die; see [`participant::crash`].
    pub fn crash_file(&self, program: Program) -> PathBuf {
        self.folder.join(format!("{}.crash", program.name()))
    }

    /// The log of the next process.
    pub fn log(&self, program: Program) -> PathBuf {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        self.folder.join(format!("{}-{number}.log", program.name()))
    }
}
