//! The document as a page for people, in Markdown: docs/messages.md is the page of what ships.

use std::fmt::Write as _;

use serde_json::Value;

const INTRODUCTION: &str = "\
# Messages

What goes over Kafka. This page is made by `orchestrator asyncapi --format markdown` from the definitions and schemas that ship, and a
test holds it to that. For programs: `orchestrator asyncapi`, or `GET /asyncapi.json` of a service, which has everything that is
published there.

Values are Avro, in the single-object encoding (`C3 01`, eight bytes that say which schema wrote it, the fields), or in the registry's
format where `SCHEMA_REGISTRY_URL` is set; readers take both. Headers are text in UTF-8. How a participant has to behave is in
[writing-a-participant.md](writing-a-participant.md).
";

/// The page of a document that [`super::document`] made.
pub fn page(document: &Value) -> String {
    let mut out = INTRODUCTION.to_owned();
    topics(document, &mut out);
    let operations = steps(document);
    let mut of: Vec<(&Value, &Value)> = operations
        .iter()
        .map(|operation| (&operation["x-saga"]["definition"], &operation["x-saga"]["version"]))
        .collect();
    of.dedup();
    out.push_str("\n## Who is asked what\n");
    for (name, version) in of {
        let own = |operation: &&&Value| {
            operation["x-saga"]["definition"] == *name && operation["x-saga"]["version"] == *version
        };
        let own: Vec<&Value> = operations.iter().filter(own).copied().collect();
        definition(text(name), version, &own, &mut out);
    }
    headers(document, &mut out);
    records(document, &mut out);
    out
}

// Nothing is an error while a text grows in memory.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => { let _ = writeln!($out, $($arg)*); };
}

fn topics(document: &Value, out: &mut String) {
    out.push_str("\n## Topics\n\n| topic | what is on it | the orchestrator |\n| --- | --- | --- |\n");
    for (topic, channel) in members(&document["channels"]) {
        let reference = format!("#/channels/{topic}");
        let mut does: Vec<&str> = members(&document["operations"])
            .filter(|(_, operation)| operation["channel"]["$ref"] == *reference)
            .map(|(_, operation)| match text(&operation["action"]) {
                "receive" => "receives",
                _ => "sends",
            })
            .collect();
        does.sort_unstable();
        does.dedup();
        let does = if does.is_empty() { "neither".to_owned() } else { does.join(" and ") };
        line!(out, "| `{topic}` | {} | {does} |", text(&channel["description"]));
    }
}

/// The operations that are steps of sagas: by definition, then in the order of the steps, each before what undoes it.
fn steps(document: &Value) -> Vec<&Value> {
    let operations = members(&document["operations"]).map(|(_, operation)| operation);
    let mut operations: Vec<&Value> =
        operations.filter(|operation| operation["x-saga"].is_object()).collect();
    operations.sort_by_key(|operation| {
        let saga = &operation["x-saga"];
        let number = |name: &str| saga[name].as_u64().unwrap_or_default();
        (text(&saga["definition"]), number("version"), number("order"), saga["direction"] != "forward")
    });
    operations
}

fn definition(name: &str, version: &Value, operations: &[&Value], out: &mut String) {
    line!(
        out,
        "\n### {name}, version {version}\n\n```mermaid\nsequenceDiagram\n    participant orchestrator"
    );
    let forward = operations.iter().filter(|operation| operation["x-saga"]["direction"] == "forward");
    for operation in forward {
        let participant = text(&operation["x-saga"]["participant"]);
        line!(out, "    orchestrator->>{participant}: {}", record(&operation["messages"][0]));
        line!(out, "    {participant}-->>orchestrator: {}", record(&operation["reply"]["messages"][0]));
    }
    out.push_str("```\n\n| step | kind | topic | command | replies |\n| --- | --- | --- | --- | --- |\n");
    for operation in operations {
        let saga = &operation["x-saga"];
        let undo = if saga["direction"] == "forward" { "" } else { "undo " };
        let replies = operation["reply"]["messages"].as_array().into_iter().flatten();
        let replies: Vec<String> = replies.map(linked).collect();
        line!(
            out,
            "| {undo}{} | {} | `{}.commands` | {} | {} |",
            text(&saga["step"]),
            text(&saga["kind"]),
            text(&saga["participant"]),
            linked(&operation["messages"][0]),
            replies.join(", "),
        );
    }
}

fn headers(document: &Value, out: &mut String) {
    out.push_str("\n## Headers\n");
    for (name, about) in [
        ("CommandHeaders", "Commands"),
        ("ReplyHeaders", "Replies of what was done"),
        ("RefusalHeaders", "Replies of what was not done"),
        ("EventHeaders", "Domain events of participants"),
        ("SagaEventHeaders", "`saga.events`"),
        ("DeadLetterHeaders", "Dead letters, after the record's own"),
    ] {
        let schema = &document["components"]["schemas"][name];
        line!(out, "\n### {about}\n\n| header | value | what it says |\n| --- | --- | --- |");
        let required = schema["required"].as_array();
        for (header, value) in members(&schema["properties"]) {
            let always = required.is_some_and(|names| names.iter().any(|name| *name == *header));
            let optional = if always { "" } else { ", may be absent" };
            line!(out, "| `{header}` | {}{optional} | {} |", allowed(value), text(&value["description"]));
        }
    }
}

fn allowed(value: &Value) -> String {
    if let Some(words) = value["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|word| format!("`{}`", text(word))).collect();
        return words.join(" or ");
    }
    match (value["format"].as_str(), value["pattern"].as_str()) {
        (Some("uuid"), _) => "a UUID".to_owned(),
        (Some(_), _) => "a time, RFC 3339".to_owned(),
        (None, Some(_)) => "a number".to_owned(),
        (None, None) => "text".to_owned(),
    }
}

fn records(document: &Value, out: &mut String) {
    out.push_str("\n## Records\n");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let record = &schema["schema"];
        if !record.is_object() {
            continue;
        }
        line!(out, "\n### {name}\n\n{}", text(&record["doc"]));
        if let Some(topic) = record["topic"].as_str() {
            line!(out, "\nPublished on `{topic}`.");
        }
        let fields = record["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
        if fields.is_empty() {
            continue;
        }
        out.push_str("\n| field | type | what it says |\n| --- | --- | --- |\n");
        for field in fields {
            let default = field.get("default").map(|value| format!(", else `{value}`")).unwrap_or_default();
            let shown = shape(&field["type"]).replace('|', "\\|");
            line!(out, "| `{}` | {shown}{default} | {} |", text(&field["name"]), text(&field["doc"]));
        }
    }
}

/// An Avro type in a few words.
fn shape(ty: &Value) -> String {
    match ty {
        Value::String(name) => name.clone(),
        Value::Array(branches) => branches.iter().map(shape).collect::<Vec<_>>().join(" | "),
        _ => match (ty["logicalType"].as_str(), text(&ty["type"])) {
            (Some(logical), _) => logical.to_owned(),
            (None, "array") => format!("list of {}", shape(&ty["items"])),
            (None, "map") => format!("map of {}", shape(&ty["values"])),
            (None, "enum") => {
                let symbols = ty["symbols"].as_array().into_iter().flatten();
                symbols.map(text).collect::<Vec<_>>().join(" | ")
            }
            (None, "record") => {
                let fields = ty["fields"].as_array().into_iter().flatten();
                let fields: Vec<String> = fields
                    .map(|field| format!("{}: {}", text(&field["name"]), shape(&field["type"])))
                    .collect();
                format!("{{{}}}", fields.join(", "))
            }
            (None, other) => other.to_owned(),
        },
    }
}

/// The record of a message that is referred to.
fn record(reference: &Value) -> &str {
    let name = text(&reference["$ref"]).rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').map_or(name, |(record, _)| record)
}

fn linked(reference: &Value) -> String {
    let record = record(reference);
    let anchor: String = record.chars().filter(|c| *c != '.').map(|c| c.to_ascii_lowercase()).collect();
    format!("[{record}](#{anchor})")
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
