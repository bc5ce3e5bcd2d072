//! Every definition of this repository, held against its schemas.

use std::fs;
use std::path::{Path, PathBuf};

use saga_defs::check::{Participants, check};
use schemas::Catalog;

/// Folders of definitions, each with the folder of its own schemas if it has one.
const FOLDERS: &[(&str, Option<&str>)] = &[
    ("saga-defs/definitions", None),
    ("docs/examples/postpaid", None),
    ("docs/examples/greeting/definitions", Some("docs/examples/greeting/avro")),
    ("tests/definitions", Some("tests/schemas")),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_definitions_of_this_repository_fit_their_schemas() {
    let mut participants = Participants::default();
    for (folder, schemas) in FOLDERS {
        let own = schemas.map(|schemas| Catalog::read_dir(&root().join(schemas)).unwrap());
        let catalog = Catalog::shipped().with_sources(own.unwrap_or_default()).unwrap();
        let mut files: Vec<PathBuf> =
            fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        assert!(!files.is_empty(), "{folder} has definitions");
        for file in files {
            let source = fs::read_to_string(&file).unwrap();
            let checked = check(&source, &catalog, &participants);
            let definition = checked.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            participants.add(&definition);
        }
    }
}
