//! `docs/faults.md` says the truth about what shows each fault: every test and every fault of the campaign that it names is
//! there, and no fault that has to be survived is left out.
#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use regex::Regex;

/// Those that have to have a row, from the first to the last of each span.
const FAULTS: &[(u32, u32)] = &[
    (1, 9),
    (12, 19),
    (21, 30),
    (32, 32),
    (38, 43),
    (45, 46),
    (48, 49),
    (53, 56),
    (59, 59),
    (62, 64),
    (68, 68),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The last column of each row, by the row's number.
fn shown_by() -> BTreeMap<u32, String> {
    let page = fs::read_to_string(root().join("docs/faults.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let Ok(number) = cells[0].parse() else { continue };
        assert_eq!(cells.len(), 4, "{line}");
        assert!(!cells[2].is_empty(), "{line}");
        let waits = cells[2].contains("*not shown*") || cells[2].contains("*waits*");
        assert!(waits || !cells[3].is_empty(), "row {number} says what happens and not what shows it");
        assert_eq!(rows.insert(number, cells[3].to_owned()), None, "{number} is there twice");
    }
    rows
}

#[test]
fn every_fault_has_a_row() {
    let rows = shown_by();
    let missing: Vec<u32> = FAULTS
        .iter()
        .flat_map(|&(first, last)| first..=last)
        .filter(|number| !rows.contains_key(number))
        .collect();
    assert_eq!(missing, [0_u32; 0], "docs/faults.md says nothing of these faults");
}

#[test]
fn what_is_said_to_show_a_fault_is_there() {
    let reference = Regex::new("`([^`]+)`").unwrap();
    let listed = Command::new(env!("CARGO_BIN_EXE_campaign")).arg("--list").output().unwrap();
    let campaign = String::from_utf8(listed.stdout).unwrap();
    let campaign: Vec<&str> = campaign.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let is_there = |named: &str| match (named.strip_prefix("campaign:"), named.split_once("::")) {
        (Some(fault), _) => campaign.contains(&fault),
        (None, Some((file, test))) => {
            fs::read_to_string(root().join(file)).is_ok_and(|text| text.contains(&format!("fn {test}(")))
        }
        (None, None) => false,
    };
    let mut wrong = Vec::new();
    for (number, shown_by) in shown_by() {
        let named = reference.captures_iter(&shown_by).map(|found| found.extract::<1>().1[0]);
        wrong.extend(named.filter(|named| !is_there(named)).map(|named| format!("{number}: {named}")));
    }
    assert_eq!(wrong, [""; 0], "docs/faults.md names what is not there");
}
