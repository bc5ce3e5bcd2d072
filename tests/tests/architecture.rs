//! The rules of ARCHITECTURE.md that a compiler does not hold: which crate may know which, who owns a library, how long a file may be.
#![cfg(test)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use regex::Regex;
use serde::Deserialize;
use toml::{Table, Value};

/// Every crate of the workspace and its layer. A crate knows crates of lower layers only, so those of one layer never know each other.
const LAYERS: &[(&str, u8)] = &[
    ("saga-defs", 0),
    ("migrations", 0),
    ("client", 0),
    ("local-postgres", 0),
    ("schemas", 1),
    ("saga-model", 1),
    ("sagactl", 1),
    ("messaging", 2),
    ("participant", 3),
    ("orchestrator", 4),
    ("booking-worker", 4),
    ("payment-worker", 4),
    ("local", 5),
    ("tests", 6),
    ("simulation", 7),
];

/// Libraries that one crate alone knows, so that they can be replaced there.
const OWNERS: &[(&str, &str)] =
    &[("rdkafka", "messaging"), ("warp", "orchestrator"), ("apache-avro", "schemas")];

/// The whole of what saga-defs is built from: data, text and numbers. (`getrandom` and `libc` come with the features that other crates
/// switch on in `uuid`; saga-defs/clippy.toml keeps it from drawing ids.)
const PURE: &[&str] = &[
    "block-buffer",
    "cfg-if",
    "cpufeatures",
    "crypto-common",
    "deranged",
    "digest",
    "generic-array",
    "getrandom",
    "humantime",
    "itoa",
    "libc",
    "memchr",
    "num-conv",
    "powerfmt",
    "proc-macro2",
    "quote",
    "saga-defs",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "serde_spanned",
    "sha2",
    "strsim",
    "syn",
    "thiserror",
    "thiserror-impl",
    "time",
    "time-core",
    "time-macros",
    "toml",
    "toml_datetime",
    "toml_parser",
    "toml_writer",
    "typenum",
    "unicode-ident",
    "uuid",
    "winnow",
    "zmij",
];

/// Longest file of Rust, in lines.
const FILE_LINES: usize = 500;

#[derive(Deserialize)]
struct Workspace {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    default_run: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` for what the crate itself is built from.
    kind: Option<String>,
    optional: bool,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn cargo(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(arguments).arg("--offline").current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn packages() -> Vec<Package> {
    let workspace: Workspace =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    workspace.packages
}

fn read_toml(path: &Path) -> Table {
    fs::read_to_string(path).unwrap().parse().unwrap()
}

/// Fails with all that is wrong, a line each.
fn check(rule: &str, wrong: impl IntoIterator<Item = String>) {
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{rule}\n  {}", wrong.join("\n  "));
}

#[test]
fn every_crate_has_a_layer() {
    let layered: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    let packages = packages();
    assert_eq!(layered, packages.iter().map(|package| package.name.as_str()).collect());
    check(
        "a crate is called as its folder",
        packages.iter().filter(|package| package.name != "local-postgres").filter_map(|package| {
            let folder = package.manifest_path.parent()?.file_name()?.to_str()?;
            (folder != package.name).then(|| format!("{} is in {folder}", package.name))
        }),
    );
}

#[test]
fn arrows_go_down_only() {
    let layers: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    let wrong = packages().into_iter().flat_map(|package| {
        let own = layers[package.name.as_str()];
        let upward = move |dependency: &Dependency| {
            LAYERS.iter().any(|(name, layer)| *name == dependency.name && *layer >= own)
        };
        // A crate may name itself for its tests, so that they see what a feature adds.
        let itself = |d: &&Dependency| d.name == package.name && d.kind.as_deref() == Some("dev");
        let knows: Vec<String> = package
            .dependencies
            .iter()
            .filter(|dependency| upward(dependency) && !itself(dependency))
            .map(|d| d.name.clone())
            .collect();
        knows.into_iter().map(move |name| format!("{} knows {name}", package.name))
    });
    check("a crate knows crates of lower layers only", wrong);
}

#[test]
fn databases_are_started_by_the_local_stack_and_by_tests() {
    let starters = ["local", "tests"];
    let starts = |package: &Package| {
        // Behind a feature it is for tests: the services do not turn it on.
        package.dependencies.iter().any(|d| d.name == "local-postgres" && d.kind.is_none() && !d.optional)
    };
    let wrong = packages()
        .into_iter()
        .filter(|package| starts(package) && !starters.contains(&package.name.as_str()));
    check("local-postgres is for the local stack and for tests", wrong.map(|package| package.name));
}

#[test]
fn a_library_with_an_owner_is_known_to_nobody_else() {
    let packages = packages();
    for (library, owner) in OWNERS {
        let knows =
            |package: &&Package| package.dependencies.iter().any(|dependency| dependency.name == *library);
        let knowing: Vec<&str> = packages.iter().filter(knows).map(|package| package.name.as_str()).collect();
        assert_eq!(knowing, [*owner], "who knows {library}");
    }
}

#[test]
fn deny_toml_names_the_same_owners() {
    let deny = read_toml(&root().join("deny.toml"));
    let banned = deny["bans"]["deny"].as_array().unwrap();
    for (library, owner) in OWNERS {
        let entry = banned.iter().find(|entry| entry["crate"].as_str() == Some(library));
        let wrappers = entry.and_then(|entry| entry.get("wrappers")).cloned();
        assert_eq!(
            wrappers,
            Some(Value::Array(vec![Value::String((*owner).to_owned())])),
            "wrappers of {library}"
        );
    }
}

#[test]
fn the_core_is_built_from_a_short_list() {
    let tree = cargo(&[
        "tree",
        "--edges",
        "normal",
        "--package",
        "saga-defs",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let built_from: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let listed: BTreeSet<&str> = PURE.iter().copied().collect();
    let new = built_from.difference(&listed).map(|name| format!("{name} is new"));
    let gone =
        listed.difference(&built_from).map(|name| format!("{name} is no longer used: take it off the list"));
    check("saga-defs stays pure: no async, no I/O, no clock", new.chain(gone));
}

#[test]
fn the_core_has_the_lints_of_the_others_and_more() {
    let everywhere = read_toml(&root().join("clippy.toml"));
    let core = read_toml(&root().join("saga-defs/clippy.toml"));
    let lost = everywhere
        .iter()
        .filter(|(name, value)| core.get(*name) != Some(value))
        .map(|(name, _)| name.clone());
    check("saga-defs/clippy.toml repeats clippy.toml, since clippy reads the nearest one only", lost);
    assert!(core.contains_key("disallowed-methods"), "saga-defs/clippy.toml bans clocks and chance");
}

#[test]
fn cargo_run_finds_the_local_stack() {
    let named: Vec<String> =
        packages().into_iter().filter(|p| p.default_run.is_some()).map(|p| p.name).collect();
    assert_eq!(named, ["local"], "a second default-run makes a plain `cargo run` an error");
    let workspace = read_toml(&root().join("Cargo.toml"));
    assert!(
        workspace["workspace"].get("default-members").is_none(),
        "default-members would narrow `cargo test`"
    );
}

#[test]
fn versions_and_lints_are_set_once() {
    let wrong = packages().into_iter().flat_map(|package| {
        let manifest = read_toml(&package.manifest_path);
        let lints =
            manifest.get("lints").and_then(|lints| lints.get("workspace")) == Some(&Value::Boolean(true));
        let mut wrong =
            if lints { Vec::new() } else { vec![format!("{} has lints of its own", package.name)] };
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let entries = manifest.get(section).and_then(Value::as_table).into_iter().flatten();
            let own = entries.filter(|(_, entry)| entry.get("workspace") != Some(&Value::Boolean(true)));
            wrong.extend(own.map(|(name, _)| format!("{} has its own version of {name}", package.name)));
        }
        wrong
    });
    check("versions and lints are in the Cargo.toml of the workspace", wrong);
}

/// What makes processes die on purpose (participant/src/crash.rs) is in no release: nobody but this crate asks for it, and it does
/// nothing in a build without debug assertions, which a release stays.
#[test]
fn no_release_dies_on_purpose() {
    const FEATURE: &str = "crash-points";
    let asking = packages().into_iter().flat_map(|package| {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        let allowed = match &*package.name {
            "tests" => "participant = { workspace = true, features = [\"crash-points\"] }",
            "participant" => "crash-points = []",
            _ => "",
        };
        let lines: Vec<String> = manifest.lines().map(str::to_owned).collect();
        let wrong = lines.into_iter().filter(|line| line.contains(FEATURE) && line != allowed);
        wrong.map(move |line| format!("{}: {line}", package.name)).collect::<Vec<_>>()
    });
    let workspace = read_toml(&root().join("Cargo.toml"));
    let profiles = workspace["profile"].as_table().unwrap().iter();
    let asserting = profiles.filter(|(name, profile)| {
        !matches!(name.as_str(), "dev" | "test") && profile.get("debug-assertions").is_some()
    });
    let asserting = asserting.map(|(name, _)| format!("profile.{name} sets debug-assertions"));
    let texts = ["README.md", "CONTRIBUTING.md", ".ci/run"].into_iter();
    let built = texts.filter(|text| fs::read_to_string(root().join(text)).unwrap().contains(FEATURE));
    let built = built.map(|text| format!("{text} builds with {FEATURE}"));
    check("no release dies on purpose", asking.chain(asserting).chain(built));
}

#[test]
fn no_file_is_too_long() {
    let mut folders = vec![root().to_owned()];
    let mut wrong = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                if lines > FILE_LINES {
                    wrong.push(format!("{} has {lines}", path.strip_prefix(root()).unwrap().display()));
                }
            }
        }
    }
    check(&format!("a file has at most {FILE_LINES} lines: split it by concern"), wrong);
}

#[test]
fn the_image_is_built_from_every_crate() {
    let taken = fs::read_to_string(root().join("deploy/images/Dockerfile.dockerignore")).unwrap();
    let taken: BTreeSet<&str> = taken.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let folders = packages().into_iter().map(|package| {
        let folder = package.manifest_path.parent().unwrap().to_owned();
        folder.strip_prefix(root()).unwrap().display().to_string()
    });
    check(
        "deploy/images/Dockerfile.dockerignore lets every crate through",
        folders.filter(|folder| !taken.contains(folder.as_str())),
    );
}

#[test]
fn files_that_documents_name_are_there() {
    let listed = Command::new("git").args(["ls-files", "*.md"]).current_dir(root()).output().unwrap();
    assert!(listed.status.success(), "git: {}", String::from_utf8_lossy(&listed.stderr));
    let named =
        Regex::new(r"(?:^|[\s`(|])((?:[a-z-]+/)+[A-Za-z0-9_-]+\.(?:rs|md|toml|avsc|yaml|json))\b").unwrap();
    let mut wrong = Vec::new();
    for document in String::from_utf8(listed.stdout).unwrap().lines() {
        let document = root().join(document);
        let folder = document.parent().unwrap();
        let text = fs::read_to_string(&document).unwrap();
        for (number, line) in text.lines().enumerate() {
            for path in named.captures_iter(line).map(|found| found.extract::<1>().1[0]) {
                let top = path.split('/').next().unwrap();
                let ours = root().join(top).is_dir() || folder.join(top).is_dir();
                if ours && !root().join(path).exists() && !folder.join(path).exists() {
                    let document = document.strip_prefix(root()).unwrap().display();
                    wrong.push(format!("{document}:{}: {path}", number + 1));
                }
            }
        }
    }
    check("a document names files that are there", wrong);
}
