//! Bytes for people's eyes.

use std::fmt::Write as _;

/// Bytes of a line.
const LINE: usize = 16;
/// Lines shown, about the place that matters.
const LINES: usize = 32;

/// Bytes as lines of offset, hexadecimal digits and text: the lines about the byte `at`, the first ones if that is near
/// the beginning.
pub(crate) fn view(bytes: &[u8], at: usize) -> Vec<String> {
    let from = (at / LINE).saturating_sub(LINES / 2);
    bytes
        .chunks(LINE)
        .enumerate()
        .skip(from)
        .take(LINES)
        .map(|(number, line)| row(number * LINE, line))
        .collect()
}

fn row(offset: usize, bytes: &[u8]) -> String {
    let mut text = format!("{offset:08x} ");
    for place in 0..LINE {
        if place % 8 == 0 {
            text.push(' ');
        }
        match bytes.get(place) {
            Some(byte) => drop(write!(text, "{byte:02x} ")),
            None => text.push_str("   "),
        }
    }
    let shown = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
    text.push_str(" |");
    text.extend(bytes.iter().map(shown));
    text.push('|');
    text
}

#[cfg(test)]
mod tests {
    use super::view;

    #[test]
    fn a_view_is_as_hexdump_shows_it() {
        let bytes: Vec<u8> = (0..40_u8).map(|n| n.wrapping_mul(7)).collect();
        insta::assert_snapshot!(view(&bytes, 0).join("\n"), @r"
        00000000  00 07 0e 15 1c 23 2a 31  38 3f 46 4d 54 5b 62 69  |.....#*18?FMT[bi|
        00000010  70 77 7e 85 8c 93 9a a1  a8 af b6 bd c4 cb d2 d9  |pw~.............|
        00000020  e0 e7 ee f5 fc 03 0a 11                           |........|
        ");
        assert_eq!(view(b"", 0), Vec::<String>::new());
        let long = vec![b'x'; 100_000];
        let about = view(&long, 50_000);
        assert_eq!((about.len(), &about[16][..8]), (32, "0000c350"));
    }
}
