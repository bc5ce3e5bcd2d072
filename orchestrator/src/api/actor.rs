//! Who acts, as the audit has it. Nobody is asked to prove it here: a proxy in front does that, and says who it is in a header
//! that the service is told to believe.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::problem::{Kind, Problem};

/// Who acted where nobody says so.
const ANONYMOUS: &str = "anonymous";
/// Characters of a name.
const MAX_ACTOR: usize = 200;
/// What is in these is kept to those who need it, and the audit is for everybody to read.
const SECRET: [HeaderName; 3] = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE];

/// The header that is believed when it says who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorHeader(HeaderName);

impl ActorHeader {
    /// The header of this name; `None` for what is no header's name, and for those that carry secrets.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|name| !SECRET.contains(name)).map(Self)
    }

    pub(crate) const fn name(&self) -> &HeaderName {
        &self.0
    }

    /// As the owner of a saga is told who acts; nothing for those who did not say so.
    pub(crate) fn telling(&self, actor: &str) -> Option<(HeaderName, HeaderValue)> {
        let value = HeaderValue::from_bytes(actor.as_bytes()).ok().filter(|_| actor != ANONYMOUS)?;
        Some((self.0.clone(), value))
    }
}

/// Who sends a request with these headers.
///
/// # Errors
/// `400` where the header is there and does not name one actor: an act is never written down as somebody else's.
pub(crate) fn actor(believed: Option<&ActorHeader>, headers: &HeaderMap) -> Result<Arc<str>, Problem> {
    let Some(ActorHeader(name)) = believed else { return Ok(ANONYMOUS.into()) };
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(ANONYMOUS.into()) };
    let text = std::str::from_utf8(value.as_bytes()).map(str::trim).unwrap_or_default();
    let is_name =
        !text.is_empty() && text.chars().count() <= MAX_ACTOR && !text.chars().any(char::is_control);
    if !is_name || values.next().is_some() {
        let text = format!("{name} must name who acts, once and in at most {MAX_ACTOR} characters");
        return Err(Problem::new(Kind::BadHeader, text));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_with_secrets_say_nothing() {
        let told = |name: &str| ActorHeader::parse(name).is_some();
        let names = ["x-forwarded-user", "Remote-User", "Authorization", "cookie", "", "x user"];
        assert_eq!(names.map(told), [true, true, false, false, false, false]);
    }

    #[test]
    fn who_acts_is_said_once_and_plainly() {
        let believed = ActorHeader::parse("x-forwarded-user").unwrap();
        let said = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-user", HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            actor(Some(&believed), &headers).ok().map(|actor| actor.to_string())
        };
        assert_eq!(said(&[]).as_deref(), Some("anonymous"));
        assert_eq!(said(&[" ann "]).as_deref(), Some("ann"));
        assert_eq!(said(&["Jürgen"]).as_deref(), Some("Jürgen"));
        let long = "a".repeat(MAX_ACTOR + 1);
        for wrong in [&[""][..], &["ann", "bob"], &["a\tb"], &[long.as_str()]] {
            assert_eq!(said(wrong), None, "{wrong:?}");
        }
    }
}
