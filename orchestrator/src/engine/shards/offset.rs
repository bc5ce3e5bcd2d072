//! An offset in few bytes: of a million waiting sagas each byte is a megabyte.

/// Where an attempt's command lies in its partition, for those who ask; of six bytes, so that a slot grows by none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offset([u8; 6]);

impl Offset {
    pub(super) const UNKNOWN: Self = Self([0xff; 6]);

    pub(super) const fn new(offset: i64) -> Self {
        match offset.to_be_bytes() {
            [0, 0, low @ ..] => Self(low),
            _ => Self::UNKNOWN,
        }
    }

    pub(super) fn get(self) -> Option<i64> {
        let [a, b, c, d, e, f] = self.0;
        (self != Self::UNKNOWN).then_some(i64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}
