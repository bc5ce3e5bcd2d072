//! Settings by name: defaults < file < environment < flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// A setting that a program has.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// As in the environment, e.g. `DATABASE_URL`. The flag is `--database-url`, the key in the file `database_url`.
    pub name: &'static str,
    /// What it is, in one line.
    pub help: &'static str,
    /// Its value if it is given nowhere.
    pub default: Option<&'static str>,
    /// Whether its value must never be shown.
    pub secret: bool,
}

impl Setting {
    /// A setting that may be shown and has no default.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, default: None, secret: false }
    }

    /// The same with a default.
    pub const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// The same in other words.
    #[must_use]
    pub const fn described(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// The same as a secret.
    pub const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// `database-url` for `DATABASE_URL`.
    pub(crate) fn flag(&self) -> String {
        self.name.to_ascii_lowercase().replace('_', "-")
    }

    /// `database_url` for `DATABASE_URL`.
    pub(crate) fn key(&self) -> String {
        self.name.to_ascii_lowercase()
    }
}

/// A wrong setting, in one line: which, what was found, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: found {found}, allowed: {allowed}")]
pub struct SettingError {
    /// The setting.
    pub name: String,
    /// What it is; `nothing` if it is missing, and no more than `a text` for a secret.
    pub found: String,
    /// What would do.
    pub allowed: String,
}

/// The values of a program's settings.
#[derive(Clone, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Shown)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Yes,
    Never,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.values.iter().map(|(name, (value, shown))| match shown {
            Shown::Yes => (name, value.as_str()),
            Shown::Never => (name, "(secret)"),
        });
        f.debug_map().entries(shown).finish()
    }
}

impl Settings {
    /// Puts the values together: `given` (flags and environment) first, then the file's, then the defaults.
    pub(crate) fn gather(
        known: &[Setting],
        given: impl Fn(&Setting) -> Option<String>,
        file: &BTreeMap<String, String>,
    ) -> Self {
        let values = known.iter().filter_map(|setting| {
            let in_file = || file.get(&setting.key()).cloned();
            let value = given(setting).or_else(in_file).or_else(|| setting.default.map(str::to_owned))?;
            let shown = if setting.secret { Shown::Never } else { Shown::Yes };
            Some((setting.name, (value, shown)))
        });
        Self { values: values.collect() }
    }

    /// The value of an optional setting.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(value, _)| value.as_str())
    }

    /// The value of a setting that must be there, as `read` understands it.
    ///
    /// # Errors
    /// It is missing, or `read` gives `None`; then `allowed` says what would do.
    pub fn read<T>(
        &self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, SettingError> {
        self.text(name).and_then(read).ok_or_else(|| self.wrong(name, allowed))
    }

    /// A setting that is `true` or `false`; missing is `false`.
    ///
    /// # Errors
    /// It is something else.
    pub fn switch(&self, name: &str) -> Result<bool, SettingError> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    /// The error for a setting that is not as it should be.
    pub fn wrong(&self, name: &str, allowed: impl Into<String>) -> SettingError {
        let found = match self.values.get(name) {
            None => "nothing".to_owned(),
            Some((_, Shown::Never)) => "a text that is not shown here".to_owned(),
            Some((value, Shown::Yes)) => format!("{value:?}"),
        };
        SettingError { name: name.to_owned(), found, allowed: allowed.into() }
    }
}

/// Reads a TOML file of settings: `key = value` with the keys of `known`.
pub(crate) fn read_file(path: &Path, known: &[Setting]) -> Result<BTreeMap<String, String>, SettingError> {
    let wrong = |found: String, allowed: &str| SettingError {
        name: format!("--config {}", path.display()),
        found,
        allowed: allowed.to_owned(),
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(error.to_string(), "a TOML file that can be read"))?;
    // Only the reason: the parser's full message quotes lines, and a line may hold a secret.
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| wrong(error.message().to_owned(), "TOML"))?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        if !known.iter().any(|setting| setting.key() == key) {
            let keys: Vec<_> = known.iter().map(Setting::key).collect();
            return Err(wrong(format!("the key {key}"), &keys.join(", ")));
        }
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(yes) => yes.to_string(),
            other => {
                return Err(wrong(format!("{key} as {}", other.type_str()), "texts, integers, true, false"));
            }
        };
        values.insert(key, text);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Setting; 3] = [
        Setting::new("DATABASE_URL", "where").secret(),
        Setting::new("KAFKA_BOOTSTRAP_SERVERS", "where").or("127.0.0.1:9092"),
        Setting::new("ALLOW", "whether"),
    ];

    fn settings(given: &[(&str, &str)], file: &[(&str, &str)]) -> Settings {
        let file = file.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let given = |setting: &Setting| {
            given.iter().find(|(name, _)| *name == setting.name).map(|(_, value)| (*value).to_owned())
        };
        Settings::gather(&KNOWN, given, &file)
    }

    #[test]
    fn given_comes_before_the_file_and_the_file_before_the_default() {
        let name = "KAFKA_BOOTSTRAP_SERVERS";
        let file = [("kafka_bootstrap_servers", "file:1")];
        assert_eq!(settings(&[], &[]).text(name), Some("127.0.0.1:9092"));
        assert_eq!(settings(&[], &file).text(name), Some("file:1"));
        assert_eq!(settings(&[(name, "flag:1")], &file).text(name), Some("flag:1"));
        assert_eq!(settings(&[], &[]).text("ALLOW"), None);
    }

    #[test]
    fn a_wrong_setting_is_one_line_and_never_shows_a_secret() {
        let settings = settings(&[("DATABASE_URL", "postgres://me:hunter2@h/d"), ("ALLOW", "yes")], &[]);
        insta::assert_snapshot!(settings.switch("ALLOW").unwrap_err(), @r#"ALLOW: found "yes", allowed: true or false"#);
        insta::assert_snapshot!(settings.wrong("DATABASE_URL", "postgres://…"), @"DATABASE_URL: found a text that is not shown here, allowed: postgres://…");
        insta::assert_snapshot!(settings.wrong("OTHER", "anything"), @"OTHER: found nothing, allowed: anything");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    fn check_file(content: &str, expected: Result<&[(&str, &str)], &str>) {
        let path = std::env::temp_dir().join(format!("settings-{}.toml", uuid::Uuid::new_v4()));
        std::fs::write(&path, content).unwrap();
        let read = read_file(&path, &KNOWN);
        std::fs::remove_file(&path).unwrap();
        match (read, expected) {
            (Ok(values), Ok(expected)) => {
                let expected: Vec<_> =
                    expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
                assert_eq!(values.into_iter().collect::<Vec<_>>(), expected);
            }
            (Err(error), Err(part)) => {
                let text = error.to_string();
                assert!(text.contains(part) && !text.contains('\n'), "{text}");
            }
            (read, expected) => panic!("{read:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_file_holds_known_keys_with_plain_values() {
        check_file("allow = true\ndatabase_url = 'x'", Ok(&[("allow", "true"), ("database_url", "x")]));
        check_file("", Ok(&[]));
        check_file("colour = 'red'", Err("the key colour"));
        check_file("allow = [1]", Err("allow as array"));
        check_file("database_url = 'hunter2", Err("allowed: TOML"));
    }
}
