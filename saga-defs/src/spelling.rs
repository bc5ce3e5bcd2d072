//! "Did you mean": the known name that a wrong one is most like.

use std::collections::BTreeSet;

/// Longer names are not compared: nobody misspells one, and comparing takes time by the product of the lengths.
const MAX_COMPARED_CHARS: usize = 120;

/// No more names than these are listed.
const LISTED_NAMES: usize = 20;

/// The known name nearest to a wrong one, if it is near enough to have been meant.
pub(crate) fn nearest<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if wrong.is_empty() || wrong.chars().nth(MAX_COMPARED_CHARS).is_some() {
        return None;
    }
    known
        .into_iter()
        .filter(|name| *name != wrong && name.chars().nth(MAX_COMPARED_CHARS).is_none())
        .filter_map(|name| distance(wrong, name).map(|distance| (distance, name)))
        .min()
        .map(|(_, name)| name)
}

/// `did you mean …?` of the nearest, else what else to do.
pub(crate) fn did_you_mean<'k>(
    wrong: &str,
    known: impl IntoIterator<Item = &'k str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    nearest(wrong, known).map_or_else(otherwise, |name| format!("did you mean `{name}`?"))
}

/// Names one after the other, each once, for a person to choose from.
pub(crate) fn listed<'k>(names: impl IntoIterator<Item = &'k str>) -> String {
    let mut seen = BTreeSet::new();
    let mut names = names.into_iter().filter(|name| seen.insert(*name));
    let mut text = names.by_ref().take(LISTED_NAMES).collect::<Vec<_>>().join(", ");
    if names.next().is_some() {
        text.push_str(", …");
    }
    text
}

/// How far apart two names are; `None` when nobody would take one for the other.
fn distance(wrong: &str, name: &str) -> Option<usize> {
    let (wrong, name) = (wrong.to_ascii_lowercase(), name.to_ascii_lowercase());
    let plain = |text: &str| text.replace(['-', '_'], "");
    // A forgotten namespace, another case, another way to join words: the same name to a person.
    let last = |text: &str| text.rsplit('.').next().map(str::to_owned);
    let unqualified = !wrong.contains('.') && last(&name).as_deref() == Some(&*wrong);
    if plain(&wrong) == plain(&name) || unqualified {
        return Some(0);
    }
    // A third of the longer name may be wrong, as rustc has it.
    let (wrong_length, length) = (wrong.chars().count(), name.chars().count());
    let allowed = wrong_length.max(length).max(3) / 3;
    if wrong_length.abs_diff(length) > allowed {
        return None;
    }
    Some(strsim::osa_distance(&wrong, &name)).filter(|distance| *distance <= allowed)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[track_caller]
    fn check(wrong: &str, known: &[&str], expected: Option<&str>) {
        assert_eq!(nearest(wrong, known.iter().copied()), expected, "{wrong}");
    }

    #[test]
    fn a_slip_is_found_and_another_word_is_not() {
        check("pivott", &["compensatable", "pivot", "retriable"], Some("pivot"));
        check("compensationRetry", &["compensation", "compensation_retry"], Some("compensation_retry"));
        check(
            "ReserveBooking",
            &["booking.ConfirmBooking", "booking.ReserveBooking"],
            Some("booking.ReserveBooking"),
        );
        check("booking.reservebooking", &["booking.ReserveBooking"], Some("booking.ReserveBooking"));
        check("colour", &["name", "version", "deadline", "input", "step"], None);
        check("", &["a"], None);
        check(&"name".repeat(100), &["name"], None);
    }
}
