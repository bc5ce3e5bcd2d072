//! What the three services say about one booking, and whether it fits together.

/// All that is known of one booking.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The status of its saga.
    pub(crate) saga: Option<String>,
    /// The status of its reservation.
    pub(crate) booking: Option<String>,
    /// The status of each of its payments.
    pub(crate) payments: Vec<String>,
    /// How often the gateway has charged for it.
    pub(crate) charges: u32,
    /// How often the gateway has refunded that.
    pub(crate) refunds: u32,
}

impl Facts {
    /// What does not fit, if anything.
    pub(crate) fn complaint(&self) -> Option<String> {
        match self.saga.as_deref() {
            None => Some("no saga, but a reservation or a payment".to_owned()),
            Some("completed") => self.complaint_of_completed(),
            Some("compensated") => self.complaint_of_compensated(),
            Some(other) => Some(format!("it has not ended, it is {other}")),
        }
    }

    fn complaint_of_completed(&self) -> Option<String> {
        if self.booking.as_deref() != Some("confirmed") {
            return Some(format!("completed, but its reservation is {}", self.reservation()));
        }
        if self.payments != ["completed"] {
            return Some(format!("completed, but its payments are [{}]", self.payments.join(", ")));
        }
        let done = (self.charges, self.refunds);
        (done != (1, 0)).then(|| format!("completed, but charged {} and refunded {} times", done.0, done.1))
    }

    fn complaint_of_compensated(&self) -> Option<String> {
        // Without a reservation: nothing was left to reserve.
        if !matches!(self.booking.as_deref(), None | Some("cancelled")) {
            return Some(format!("compensated, but its reservation is {}", self.reservation()));
        }
        if self.charges > 1 || self.refunds != self.charges {
            return Some(format!(
                "compensated, but charged {} and refunded {} times",
                self.charges, self.refunds
            ));
        }
        let fits = match &*self.payments {
            [] => self.charges == 0,
            [only] if self.charges == 1 => only == "refunded",
            // Pending: the gateway was asked in vain, so there was nothing to undo.
            [only] => only == "failed" || only == "pending",
            _ => false,
        };
        (!fits).then(|| format!("compensated, but its payments are [{}]", self.payments.join(", ")))
    }

    fn reservation(&self) -> &str {
        self.booking.as_deref().unwrap_or("missing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        saga: &str,
        booking: &str,
        payments: &[&str],
        charges: u32,
        refunds: u32,
        expected: Option<&str>,
    ) {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let payments = payments.iter().map(|status| (*status).to_owned()).collect();
        let facts = Facts { saga: text(saga), booking: text(booking), payments, charges, refunds };
        assert_eq!(facts.complaint().as_deref(), expected, "{facts:?}");
    }

    #[test]
    fn a_completed_booking_is_confirmed_and_charged_once() {
        check("completed", "confirmed", &["completed"], 1, 0, None);
        check(
            "completed",
            "reserved",
            &["completed"],
            1,
            0,
            Some("completed, but its reservation is reserved"),
        );
        check("completed", "", &["completed"], 1, 0, Some("completed, but its reservation is missing"));
        check("completed", "confirmed", &[], 0, 0, Some("completed, but its payments are []"));
        let twice = &["completed", "completed"];
        check(
            "completed",
            "confirmed",
            twice,
            2,
            0,
            Some("completed, but its payments are [completed, completed]"),
        );
        check(
            "completed",
            "confirmed",
            &["completed"],
            0,
            0,
            Some("completed, but charged 0 and refunded 0 times"),
        );
        check(
            "completed",
            "confirmed",
            &["completed"],
            1,
            1,
            Some("completed, but charged 1 and refunded 1 times"),
        );
    }

    #[test]
    fn a_compensated_booking_leaves_nothing_behind() {
        check("compensated", "cancelled", &["failed"], 0, 0, None);
        check("compensated", "cancelled", &["refunded"], 1, 1, None);
        check("compensated", "cancelled", &[], 0, 0, None);
        check("compensated", "", &[], 0, 0, None);
        check("compensated", "reserved", &[], 0, 0, Some("compensated, but its reservation is reserved"));
        let charged = Some("compensated, but charged 1 and refunded 0 times");
        check("compensated", "cancelled", &["completed"], 1, 0, charged);
        let refunded_twice = Some("compensated, but charged 1 and refunded 2 times");
        check("compensated", "cancelled", &["refunded"], 1, 2, refunded_twice);
        check("compensated", "cancelled", &["pending"], 0, 0, None);
        check(
            "compensated",
            "cancelled",
            &["pending"],
            1,
            1,
            Some("compensated, but its payments are [pending]"),
        );
    }

    #[test]
    fn what_has_not_ended_or_has_no_saga_is_named() {
        check("stuck", "reserved", &[], 0, 0, Some("it has not ended, it is stuck"));
        check("", "reserved", &[], 0, 0, Some("no saga, but a reservation or a payment"));
    }
}
