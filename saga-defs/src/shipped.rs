//! The definitions that come with the service: the files of `definitions/`.

use crate::definition::Definition;

/// A definition that comes with the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shipped {
    /// Its file in `definitions/`.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($file:literal)*) => {
        /// A test holds this list to the folder.
        const SHIPPED: &[Shipped] =
            &[$(Shipped { file: $file, text: include_str!(concat!("../definitions/", $file)) }),*];
    };
}

shipped! {
    "booking.toml"
    "erasure.toml"
    "stock-transfer.toml"
    "trip.toml"
}

/// The definitions that come with the service, in order of name.
pub const fn shipped() -> &'static [Shipped] {
    SHIPPED
}

impl Shipped {
    /// The one of this name, e.g. `booking`.
    pub fn named(name: &str) -> Option<Self> {
        SHIPPED.iter().find(|shipped| shipped.name() == name).copied()
    }

    /// Its name, e.g. `booking`: its file's, as a test holds.
    pub fn name(&self) -> &'static str {
        self.file.strip_suffix(".toml").unwrap_or(self.file)
    }

    /// The definition.
    ///
    /// # Panics
    /// If it is wrong, which the tests of this crate exclude.
    pub fn definition(&self) -> Definition {
        Definition::parse(self.text).expect("the tests of this crate parse every shipped definition")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_folder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/definitions");
        let entries = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(shipped().iter().map(|shipped| shipped.file).collect::<Vec<_>>(), files);
    }

    #[test]
    fn each_is_a_definition_named_as_its_file() {
        for shipped in shipped() {
            assert_eq!(format!("{}.toml", shipped.definition().id.name), shipped.file);
        }
    }
}
