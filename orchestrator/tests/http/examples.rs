//! Every body of the OpenAPI document has an example, which is as its schema says.

use serde_json::{Map, Value};

use crate::harness::Service;

/// What the document's schemas are made of. Another word would be one that nothing here looks at.
const KNOWN: [&str; 19] = [
    "$ref",
    "additionalProperties",
    "allOf",
    "default",
    "description",
    "enum",
    "example",
    "format",
    "items",
    "maxLength",
    "maximum",
    "minLength",
    "minimum",
    "oneOf",
    "properties",
    "propertyNames",
    "required",
    "title",
    "type",
];

struct Schemas<'a>(&'a Value);

impl Schemas<'_> {
    /// Everything that is wrong with a value, each with its place.
    fn wrong(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for word in schema.as_object().into_iter().flat_map(Map::keys) {
            assert!(KNOWN.contains(&word.as_str()), "{at}: {word} is not looked at here");
        }
        if let Some(name) = schema["$ref"].as_str() {
            return self.wrong(self.0.pointer(name.strip_prefix('#').unwrap()).unwrap(), value, at);
        }
        if let Some(parts) = schema["allOf"].as_array() {
            return self.wrong(&self.merged(parts), value, at);
        }
        if let Some(either) = schema["oneOf"].as_array() {
            let fits = either.iter().filter(|one| self.wrong(one, value, at).is_empty()).count();
            return if fits == 1 {
                wrong
            } else {
                vec![format!("{at}: {value} fits {fits} of {}", either.len())]
            };
        }
        if !kinds(schema).is_empty() && !kinds(schema).iter().any(|kind| is_of(kind, value)) {
            return vec![format!("{at}: {value} is not {}", schema["type"])];
        }
        if let Some(words) = schema["enum"].as_array()
            && !words.contains(value)
        {
            wrong.push(format!("{at}: {value} is not among {words:?}"));
        }
        let number = |name: &str| schema[name].as_f64();
        if let Some(found) = value.as_f64()
            && (number("minimum").is_some_and(|least| found < least)
                || number("maximum").is_some_and(|most| found > most))
        {
            wrong.push(format!("{at}: {value} is out of range"));
        }
        if let Some(text) = value.as_str() {
            let length = text.chars().count() as f64;
            if number("minLength").is_some_and(|least| length < least)
                || number("maxLength").is_some_and(|most| length > most)
                || !of_format(schema["format"].as_str(), text)
            {
                wrong.push(format!("{at}: {value} is not as {schema}"));
            }
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            wrong.extend(self.wrong(&schema["items"], item, &format!("{at}/{index}")));
        }
        if let Some(fields) = value.as_object() {
            wrong.extend(self.wrong_fields(schema, fields, at));
        }
        wrong
    }

    fn wrong_fields(&self, schema: &Value, fields: &Map<String, Value>, at: &str) -> Vec<String> {
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let missing = required.filter(|name| !fields.contains_key(*name));
        let mut wrong: Vec<String> = missing.map(|name| format!("{at}: {name} is missing")).collect();
        for (name, value) in fields {
            let below = format!("{at}/{name}");
            let (own, others) = (&schema["properties"][name], &schema["additionalProperties"]);
            match (own, others) {
                (Value::Null, Value::Object(_)) => wrong.extend(self.wrong(others, value, &below)),
                // A schema that names nothing takes anything.
                (Value::Null, _) if schema["properties"].is_null() => {}
                (Value::Null, _) => wrong.push(format!("{below} is not in the document")),
                (own, _) => wrong.extend(self.wrong(own, value, &below)),
            }
        }
        wrong
    }

    /// All parts as one schema, so that a field of one is no stranger to the others.
    fn merged(&self, parts: &[Value]) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for part in parts {
            let part = match part["$ref"].as_str() {
                Some(name) => self.0.pointer(name.strip_prefix('#').unwrap()).unwrap(),
                None => part,
            };
            properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
            required.extend(part["required"].as_array().cloned().unwrap_or_default());
        }
        serde_json::json!({ "type": "object", "properties": properties, "required": required })
    }
}

fn kinds(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("what is {other}?"),
    }
}

fn of_format(format: Option<&str>, text: &str) -> bool {
    match format {
        Some("uuid") => text.parse::<uuid::Uuid>().is_ok(),
        Some("date-time") => saga_defs::time::Timestamp::parse(text).is_some(),
        None => true,
        Some(other) => panic!("what is {other}?"),
    }
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

#[tokio::test]
async fn every_body_has_an_example_that_is_as_its_schema_says() {
    let service = Service::start().await;
    let document = service.get("/openapi.json").await.json();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    let mut look = |at: String, content: &Value| {
        seen += 1;
        let Some(name) = content["examples"]["example"]["$ref"].as_str() else {
            wrong.push(format!("{at} has no example"));
            return;
        };
        let example = document.pointer(name.strip_prefix('#').unwrap()).unwrap();
        wrong.extend(Schemas(&document).wrong(&content["schema"], &example["value"], &at));
    };
    for (path, item) in members(&document["paths"]) {
        for (method, operation) in members(item) {
            for (media, content) in members(&operation["requestBody"]["content"]) {
                look(format!("{method} {path} request {media}"), content);
            }
            for (status, response) in members(&operation["responses"]) {
                for (media, content) in members(&response["content"]) {
                    look(format!("{method} {path} {status} {media}"), content);
                }
            }
        }
    }
    assert!(seen > 200, "{seen} bodies");
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// One that is not asked for is one that nobody looks at.
#[tokio::test]
async fn no_example_is_left_over() {
    let service = Service::start().await;
    let document = service.get("/openapi.json").await.json();
    let source: Map<String, Value> =
        serde_json::from_str(include_str!("../../src/api/examples.json")).unwrap();
    let shown = document["components"]["examples"].as_object().unwrap();
    let left: Vec<&String> = source.keys().filter(|name| !shown.contains_key(*name)).collect();
    assert!(left.is_empty(), "no body has the examples {left:?}");
}

#[test]
fn a_wrong_example_is_seen() {
    let document = serde_json::json!({ "components": { "schemas": { "Thing": {
        "type": "object",
        "required": ["id", "size"],
        "properties": {
            "id": { "type": "string", "format": "uuid" },
            "size": { "type": "integer", "minimum": 1 },
            "state": { "oneOf": [{ "type": "null" }, { "type": "string", "enum": ["new", "old"] }] },
        },
    } } } });
    let schema = serde_json::json!({ "type": "array", "items": { "$ref": "#/components/schemas/Thing" } });
    let value = serde_json::json!([{ "id": "none", "size": 0, "state": "older", "more": 1 }, {}, 7]);
    let wrong = Schemas(&document).wrong(&schema, &value, "things").join("\n");
    insta::assert_snapshot!(wrong, @r#"
    things/0/id: "none" is not as {"format":"uuid","type":"string"}
    things/0/more is not in the document
    things/0/size: 0 is out of range
    things/0/state: "older" fits 0 of 2
    things/1: id is missing
    things/1: size is missing
    things/2: 7 is not "object"
    "#);
}
