//! What a program was told, and whether it can work with that: `config print` and `config check`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use messaging::KafkaSettings;
use messaging::reach;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{self, Connection as _, PgConnection};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::service::program::{Read, USAGE};
use crate::service::settings::{Origin, SettingError, Settings, without_passwords};
use crate::service::worker::{DATABASE_URL, KAFKA_BOOTSTRAP_SERVERS, WorkerSettings, with_causes};

/// The sub-command.
pub(crate) const NAME: &str = "config";
const PRINT: &str = "print";
const CHECK: &str = "check";
const FORMAT: &str = "format";
/// How long database and broker are asked.
const REACH_LIMIT: Duration = Duration::from_secs(5);

pub(crate) fn command() -> Command {
    let format = Arg::new(FORMAT)
        .long(FORMAT)
        .value_parser(["text", "json"])
        .default_value("text")
        .help("How it is printed");
    let print = "Prints every setting and every OTEL_ variable that is set, with its value and where that comes from; of secrets what may be seen";
    let check = "Reads every setting and asks database and broker; exit code 2 for a wrong setting, 1 where nobody answers";
    Command::new(NAME)
        .about("Shows what the program is told, and whether it can work with that")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new(PRINT).about(print).arg(format))
        .subcommand(Command::new(CHECK).about(check))
}

/// Runs the sub-command.
pub(crate) async fn run(program: &str, read: Read, settings: &Settings, arguments: &ArgMatches) -> ExitCode {
    match arguments.subcommand() {
        Some((PRINT, arguments)) => {
            let as_json = arguments.get_one::<String>(FORMAT).is_some_and(|format| format == "json");
            say(&if as_json { printed_json(settings) } else { printed(settings) });
            ExitCode::SUCCESS
        }
        _ => {
            let (text, code) = checked(program, read, settings).await;
            say(&text);
            ExitCode::from(code)
        }
    }
}

/// A closed pipe is no reason for an error.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What OpenTelemetry reads of the environment, as far as it is set, and whether it is a secret: headers are what a collector
/// knows its clients by. Their names are the standard's, and no program lists them all.
fn telemetry() -> Vec<(String, String, bool)> {
    let mut set: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("OTEL_"))?;
            let secret = name.ends_with("_HEADERS");
            let shown =
                if secret { "(secret)".to_owned() } else { without_passwords(&value.to_string_lossy()) };
            Some((name, shown, secret))
        })
        .collect();
    set.sort();
    set
}

fn printed(settings: &Settings) -> String {
    let own = settings.shown().map(|(setting, value, origin)| {
        [setting.name.to_owned(), value.unwrap_or_else(|| "-".to_owned()), origin.unwrap_or_default()]
    });
    let telemetry =
        telemetry().into_iter().map(|(name, value, _)| [name, value, Origin::Environment.to_string()]);
    let rows: Vec<[String; 3]> = own.chain(telemetry).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (names, values) = (width(0), width(1));
    let lines = rows.iter().map(|[name, value, origin]| {
        format!("{name:names$}  {value:values$}  {origin}").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn printed_json(settings: &Settings) -> String {
    let own = settings.shown().map(|(setting, value, origin)| {
        json!({"name": setting.name, "value": value, "origin": origin, "secret": setting.secret})
    });
    let telemetry = telemetry().into_iter().map(|(name, value, secret)| {
        json!({"name": name, "value": value, "origin": Origin::Environment.to_string(), "secret": secret})
    });
    let all: Vec<_> = own.chain(telemetry).collect();
    json!({"settings": all}).to_string()
}

/// What is wrong with the settings: one that is wrong is taken for its default to come to the next. Behind one that has none
/// nothing is looked at.
fn wrong_settings(read: Read, settings: &Settings) -> Result<WorkerSettings, Vec<SettingError>> {
    let mut wrong: Vec<SettingError> = Vec::new();
    let mut tried = settings.clone();
    loop {
        match read(&tried) {
            Ok(all) if wrong.is_empty() => return Ok(all),
            Ok(_) => return Err(wrong),
            Err(error) if wrong.iter().any(|known| known.name == error.name) => return Err(wrong),
            Err(error) => {
                tried = tried.without(&error.name);
                wrong.push(error);
            }
        }
    }
}

/// What is found, a line each, and the code to exit with.
async fn checked(program: &str, read: Read, settings: &Settings) -> (String, u8) {
    let base = match wrong_settings(read, settings) {
        Ok(base) => base,
        Err(wrong) => {
            let lines = wrong.iter().map(|error| line("settings", &Err(error.to_string())));
            let next = format!(
                "next: set that right and check again, there may be more; `{program} --help` says what each is"
            );
            return (lines.chain([next]).collect::<Vec<_>>().join("\n"), USAGE);
        }
    };
    let count = settings.shown().count();
    let all = Ok(format!("all {count} can be read"));
    let (database, broker) = tokio::join!(database(&base.database_url), broker(&base.kafka));
    let mut lines = vec![line("settings", &all), line("database", &database), line("kafka", &broker)];
    let ok = database.is_ok() && broker.is_ok();
    if ok {
        lines.push(format!("next: `{program} migrate`, then `{program} serve`"));
    }
    (lines.join("\n"), u8::from(!ok))
}

fn line(what: &str, found: &Result<String, String>) -> String {
    match found {
        Ok(found) => format!("{what:8}  ok     {found}"),
        Err(wrong) => format!("{what:8}  wrong  {}", wrong.replace('\n', " ")),
    }
}

async fn database(url: &SecretString) -> Result<String, String> {
    let options: PgConnectOptions =
        url.expose_secret().parse().map_err(|_| format!("{DATABASE_URL} cannot be read"))?;
    let place = match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let name = options.get_database().unwrap_or_else(|| options.get_username()).to_owned();
    let asked = async {
        let mut connection = PgConnection::connect_with(&options).await?;
        let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await?;
        let _ = connection.close().await;
        Ok::<_, sqlx::Error>(version)
    };
    match tokio::time::timeout(REACH_LIMIT, asked).await {
        Ok(Ok(version)) => Ok(format!("PostgreSQL {version} answers at {place}, database {name}")),
        Ok(Err(error)) => Err(format!(
            "{place}, database {name}: {}; next: {}",
            with_causes(&error),
            next_for_database(&error)
        )),
        Err(_) => Err(format!(
            "{place}, database {name}: no answer within {} s; next: see whether host and port in {DATABASE_URL} are right, \
             and whether a firewall is between",
            REACH_LIMIT.as_secs()
        )),
    }
}

/// What to do about a database that refuses, or is not there.
fn next_for_database(error: &sqlx::Error) -> &'static str {
    let state = error.as_database_error().and_then(|error| error.code());
    match (error, state.as_deref()) {
        (_, Some("28P01" | "28000")) => "see whether user and password in DATABASE_URL are right",
        (_, Some("3D000")) => "create the database, or name another one in DATABASE_URL",
        (_, Some("53300")) => "let Postgres have more connections (max_connections), or take less of them",
        (_, Some("57P03")) => "wait: Postgres is starting or stopping",
        (sqlx::Error::Tls(_), _) => {
            "see sslmode and sslrootcert in DATABASE_URL, and the server's certificate"
        }
        (sqlx::Error::Io(_), _) => "see whether Postgres runs there: host and port in DATABASE_URL",
        _ => "see what Postgres's log says about it",
    }
}

async fn broker(kafka: &KafkaSettings) -> Result<String, String> {
    let (kafka, servers) = (kafka.clone(), kafka.bootstrap_servers.clone());
    let asked = tokio::task::spawn_blocking(move || reach::cluster(&kafka, REACH_LIMIT)).await;
    match asked.map_err(|error| error.to_string())? {
        Ok(cluster) => {
            let brokers = cluster.brokers.join(", ");
            Ok(format!(
                "{} brokers answer at {servers} ({brokers}), with {} topics",
                cluster.brokers.len(),
                cluster.topics
            ))
        }
        Err(error) => Err(format!(
            "{servers}: {}; next: see whether Kafka runs there ({KAFKA_BOOTSTRAP_SERVERS}), and whether it wants TLS or SASL \
             (KAFKA_PROPERTIES)",
            with_causes(&error)
        )),
    }
}
