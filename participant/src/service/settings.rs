//! Settings by name: defaults < file < environment < flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// What ends the name under which a secret is given as a file.
const OF_FILE: &str = "_FILE";

/// Of most secrets.
fn nothing(_value: &str) -> Option<String> {
    None
}

/// A setting that a program has.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// As in the environment, e.g. `DATABASE_URL`. The flag is `--database-url`, the key in the file `database_url`.
    pub name: &'static str,
    /// What it is, in one line.
    pub help: &'static str,
    /// Its value if it is given nowhere.
    pub default: Option<&'static str>,
    /// Whether its value must never be shown. It may then also be given as a file that holds it: `DATABASE_URL_FILE`.
    pub secret: bool,
    /// What of a secret value may be shown; `None` of a value that is not understood.
    pub shown: fn(&str) -> Option<String>,
}

impl Setting {
    /// A setting that may be shown and has no default.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, default: None, secret: false, shown: nothing }
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

    /// The same as a secret of which this may be shown.
    pub const fn secret_but(self, shown: fn(&str) -> Option<String>) -> Self {
        Self { secret: true, shown, ..self }
    }

    /// `DATABASE_URL_FILE` for `DATABASE_URL`, if that is a secret.
    pub(crate) fn file_name(&self) -> Option<String> {
        self.secret.then(|| format!("{}{OF_FILE}", self.name))
    }

    /// `database-url` for `DATABASE_URL`.
    pub(crate) fn flag(&self) -> String {
        self.name.to_ascii_lowercase().replace('_', "-")
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

/// Where a value comes from; what comes later here comes before what is earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has given it.
    Default,
    /// The file that `--config` names.
    File(PathBuf),
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment => f.write_str("environment"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// What one place gives, by the names of settings.
pub(crate) struct Layer {
    pub(crate) origin: Origin,
    pub(crate) values: BTreeMap<String, String>,
}

/// The values of a program's settings.
#[derive(Clone, Default)]
pub struct Settings {
    known: Vec<Setting>,
    values: BTreeMap<&'static str, Given>,
}

#[derive(Clone)]
struct Given {
    value: String,
    origin: Origin,
    /// The file that holds it, where that was given and not the value.
    held_by: Option<PathBuf>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.shown().filter_map(|(setting, value, _)| Some((setting.name, value?))))
            .finish()
    }
}

impl Settings {
    /// Puts the values together. What an earlier layer gives counts; last come the defaults.
    ///
    /// # Errors
    /// A secret is given twice in one place, or in a file that cannot be read.
    pub(crate) fn gather(known: &[Setting], layers: &[Layer]) -> Result<Self, SettingError> {
        let mut values = BTreeMap::new();
        for setting in known {
            let by_layer = layers.iter().map(|layer| layer.given(setting));
            let first = by_layer.filter_map(Result::transpose).next().transpose()?;
            let default = || {
                let value = setting.default?.to_owned();
                Some(Given { value, origin: Origin::Default, held_by: None })
            };
            if let Some(given) = first.or_else(default) {
                values.insert(setting.name, given);
            }
        }
        Ok(Self { known: known.to_vec(), values })
    }

    /// The same without what is given for one setting: its default counts.
    #[must_use]
    pub(crate) fn without(&self, name: &str) -> Self {
        let mut settings = self.clone();
        settings.values.remove(name);
        if let Some(setting) = self.known.iter().find(|setting| setting.name == name)
            && let Some(default) = setting.default
        {
            let given = Given { value: default.to_owned(), origin: Origin::Default, held_by: None };
            settings.values.insert(setting.name, given);
        }
        settings
    }

    /// Every setting of the program, what may be shown of its value (`None`: it has none), and where that comes from.
    pub fn shown(&self) -> impl Iterator<Item = (&Setting, Option<String>, Option<String>)> {
        self.known.iter().map(|setting| match self.values.get(setting.name) {
            None => (setting, None, None),
            Some(Given { value, origin, held_by }) => {
                let shown = match setting.secret {
                    true => (setting.shown)(value).unwrap_or_else(|| "(secret)".to_owned()),
                    false => without_passwords(value),
                };
                let origin = match held_by {
                    Some(path) => format!("{origin}, in {}", path.display()),
                    None => origin.to_string(),
                };
                (setting, Some(shown), Some(origin))
            }
        })
    }

    /// The value of an optional setting.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|given| given.value.as_str())
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
            Some(_) if self.known.iter().any(|setting| setting.name == name && setting.secret) => {
                "a text that is not shown here".to_owned()
            }
            Some(given) => format!("{:?}", without_passwords(&given.value)),
        };
        SettingError { name: name.to_owned(), found, allowed: allowed.into() }
    }
}

impl Layer {
    /// What this place gives for a setting, itself or as a file that holds it.
    fn given(&self, setting: &Setting) -> Result<Option<Given>, SettingError> {
        // Who starts programs by templates leaves empty what is not there.
        let given = |name: &str| self.values.get(name).filter(|value| !(setting.secret && value.is_empty()));
        let value = given(setting.name);
        let file_name = setting.file_name().unwrap_or_default();
        let wrong =
            |found: String, allowed: String| Err(SettingError { name: file_name.clone(), found, allowed });
        match (value, given(&file_name)) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => wrong(format!("it beside {}", setting.name), "one of them".to_owned()),
            (Some(value), None) => {
                Ok(Some(Given { value: value.clone(), origin: self.origin.clone(), held_by: None }))
            }
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) => {
                    // Whoever writes such a file ends the line.
                    let value = text.trim_end_matches(['\r', '\n']).to_owned();
                    Ok(Some(Given { value, origin: self.origin.clone(), held_by: Some(path.into()) }))
                }
                Err(error) => {
                    let allowed = format!("a file that can be read and holds {}", setting.name);
                    wrong(format!("{path:?} ({error})"), allowed)
                }
            },
        }
    }
}

/// A value in which addresses have no passwords any more, whoever wrote them there: of each, with a scheme or without, what
/// comes before its last `@` is not shown.
pub(crate) fn without_passwords(value: &str) -> String {
    let parts = value.split_inclusive([' ', ',']).map(|part| match part.rfind('@') {
        Some(end) => {
            let scheme = part.find("://").map_or(0, |at| at + 3).min(end);
            format!("{}***{}", &part[..scheme], &part[end..])
        }
        None => part.to_owned(),
    });
    parts.collect()
}

/// Reads a TOML file of settings: `key = value` with the keys of `known`. Gives the values by the settings' names.
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
        let names = known
            .iter()
            .flat_map(|setting| std::iter::once(setting.name.to_owned()).chain(setting.file_name()));
        let Some(name) = names.clone().find(|name| name.to_ascii_lowercase() == key) else {
            let keys: Vec<_> = names.map(|name| name.to_ascii_lowercase()).collect();
            return Err(wrong(format!("the key {key}"), &keys.join(", ")));
        };
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(yes) => yes.to_string(),
            other => {
                return Err(wrong(format!("{key} as {}", other.type_str()), "texts, integers, true, false"));
            }
        };
        values.insert(name, text);
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
        gathered(given, file).unwrap()
    }

    fn gathered(given: &[(&str, &str)], file: &[(&str, &str)]) -> Result<Settings, SettingError> {
        let layer = |origin, values: &[(&str, &str)]| {
            let owned = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Layer { origin, values: owned.collect() }
        };
        Settings::gather(&KNOWN, &[layer(Origin::Environment, given), layer(Origin::File("f".into()), file)])
    }

    #[test]
    fn given_comes_before_the_file_and_the_file_before_the_default() {
        let name = "KAFKA_BOOTSTRAP_SERVERS";
        let file = [(name, "file:1")];
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

    #[test]
    fn a_secret_may_stand_in_a_file() {
        let path = std::env::temp_dir().join(format!("secret-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, "postgres://me:hunter2@h/d\n").unwrap();
        let held = ("DATABASE_URL_FILE", path.to_str().unwrap());
        let lower = ("DATABASE_URL", "lower");
        let read = settings(&[held], &[lower]);
        assert_eq!(read.text("DATABASE_URL"), Some("postgres://me:hunter2@h/d"));
        let twice = gathered(&[held, ("DATABASE_URL", "hunter2")], &[]).unwrap_err();
        insta::assert_snapshot!(twice, @"DATABASE_URL_FILE: found it beside DATABASE_URL, allowed: one of them");
        std::fs::remove_file(&path).unwrap();
        let gone = gathered(&[("DATABASE_URL_FILE", "/nowhere")], &[lower]).unwrap_err();
        insta::assert_snapshot!(gone, @r#"DATABASE_URL_FILE: found "/nowhere" (No such file or directory (os error 2)), allowed: a file that can be read and holds DATABASE_URL"#);
        // What is no secret is given itself.
        assert_eq!(settings(&[("ALLOW_FILE", "/nowhere")], &[]).text("ALLOW"), None);
    }

    #[test]
    fn what_is_shown_has_no_passwords() {
        for (value, expected) in [
            ("127.0.0.1:9092", "127.0.0.1:9092"),
            ("http://here:8080/x?y=a", "http://here:8080/x?y=a"),
            ("https://me:hunter2@here/x", "https://***@here/x"),
            ("https://hunter2@here", "https://***@here"),
            ("a://u:p@h1,b://u:p@h2", "a://***@h1,b://***@h2"),
            ("a://u:p@p@h", "a://***@h"),
            ("https://me:hun/t?e#r2@here/x", "https://***@here/x"),
            ("me:hunter2@here:9092,there:9092", "***@here:9092,there:9092"),
        ] {
            assert_eq!(without_passwords(value), expected);
        }
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
        check_file("allow = true\ndatabase_url = 'x'", Ok(&[("ALLOW", "true"), ("DATABASE_URL", "x")]));
        check_file("", Ok(&[]));
        check_file("colour = 'red'", Err("the key colour"));
        check_file("allow = [1]", Err("allow as array"));
        check_file("database_url = 'hunter2", Err("allowed: TOML"));
    }
}
