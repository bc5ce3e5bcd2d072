//! An example for each body that the OpenAPI document speaks of. They stand in examples.json, by the most special of these
//! names: `operation.request.media-type`, `operation.request`, `operation.201.media-type`, `operation.201`, `Schema.404`,
//! `Schema`. Answers of a running service, so that they go together.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

const EXAMPLES: &str = include_str!("examples.json");

/// Puts the examples into a document, once each, and a reference to its own at every body.
pub(super) fn add(document: &mut Value) {
    let Ok(Value::Object(mut examples)) = serde_json::from_str(EXAMPLES) else { return };
    let mut used = BTreeSet::new();
    for operation in operations(document) {
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        for (media, content) in members(&mut operation["requestBody"]["content"]) {
            let own = format!("{id}.request");
            let names = [format!("{own}.{}", plain(media)), own, schema(content)];
            refer(content, &names, &examples, &mut used);
        }
        for (status, response) in members(&mut operation["responses"]) {
            for (media, content) in members(&mut response["content"]) {
                let (own, schema) = (format!("{id}.{status}"), schema(content));
                let names = [format!("{own}.{}", plain(media)), own, format!("{schema}.{status}"), schema];
                refer(content, &names, &examples, &mut used);
            }
        }
        if operation["requestBody"]["content"].is_null() {
            // Looking at it has made it.
            operation.as_object_mut().map(|operation| operation.remove("requestBody"));
        }
    }
    examples.retain(|name, _| used.contains(name));
    let shown: Map<String, Value> =
        examples.into_iter().map(|(name, value)| (name, json!({ "value": value }))).collect();
    document["components"]["examples"] = Value::Object(shown);
}

fn refer(content: &mut Value, names: &[String], examples: &Map<String, Value>, used: &mut BTreeSet<String>) {
    if let Some(name) = names.iter().find(|name| examples.contains_key(*name)) {
        content["examples"] = json!({ "example": { "$ref": format!("#/components/examples/{name}") } });
        used.insert(name.clone());
    }
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    members(&mut document["paths"]).flat_map(|(_, path)| members(path)).map(|(_, operation)| operation)
}

fn members(object: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    object.as_object_mut().into_iter().flatten()
}

/// The name of the schema that a body has; empty if it has none of its own.
fn schema(content: &Value) -> String {
    let reference = content["schema"]["$ref"].as_str().unwrap_or_default();
    reference.rsplit('/').next().unwrap_or_default().to_owned()
}

/// A media type as part of a name.
fn plain(media: &str) -> String {
    media.replace(['/', '+'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_one_object() {
        assert!(serde_json::from_str::<Map<String, Value>>(EXAMPLES).is_ok());
    }
}
