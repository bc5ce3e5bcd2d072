//! The definitions of a schedule: those that ship, and some that are made to go wrong more often.

use std::sync::{Arc, OnceLock};

use saga_defs::Data;
use saga_defs::definition::Definition;
use serde_json::json;
use uuid::Uuid;

use crate::dice::Dice;

const MADE_UP: [&str; 2] =
    [include_str!("../definitions/hasty-booking.toml"), include_str!("../definitions/relay.toml")];

/// Every recipe.
///
/// # Panics
/// If one is wrong, which every test would show.
pub fn all() -> &'static [Arc<Definition>] {
    static ALL: OnceLock<Vec<Arc<Definition>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let texts = saga_defs::shipped().iter().map(|shipped| shipped.text).chain(MADE_UP);
        let parsed = |text| Definition::parse(text).expect("the recipes of this crate are right");
        texts.map(|text| Arc::new(parsed(text))).collect()
    })
}

/// An input for a recipe, of this user.
pub fn input(definition: &Definition, user: Uuid, dice: &Dice) -> Data {
    let fields = match &*definition.input {
        "accounts.RequestErasure" => json!({ "userId": user, "requestedBy": "a letter" }),
        "stock.StartTransfer" => {
            json!({ "article": "4711", "quantity": 1 + dice.below(9), "origin": "A", "destination": "B" })
        }
        "trips.StartTrip" => json!({
            "traveller": "N.N.", "email": "n@example.org", "origin": "ZRH", "destination": "LIS",
            "departure": "2027-01-31", "nights": 2, "currency": "EUR",
        }),
        _ => json!({
            "userId": user, "resourceId": Uuid::nil(), "amountMinor": 100 + dice.below(900),
            "currency": "EUR", "forcedPaymentOutcome": null,
        }),
    };
    fields.as_object().cloned().unwrap_or_default()
}

/// Whether an input of this recipe says whose it is.
pub fn names_its_user(definition: &Definition) -> bool {
    !matches!(&*definition.input, "stock.StartTransfer" | "trips.StartTrip")
}
