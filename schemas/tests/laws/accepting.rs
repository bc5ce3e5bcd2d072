//! Which values fit which fields: what the check of definitions rests on, with the codec as the witness.

use proptest::prelude::*;
use saga_defs::check::{Messages, Type};
use schemas::{Catalog, Data};
use serde_json::{Value, json};

use crate::{Field, Ty, leaf, load, message_avsc, ty};

/// Types that take every value of this one, itself among them.
fn wider(ty: &Ty) -> BoxedStrategy<Ty> {
    let same = ty.clone();
    let plain = |names: &'static [&'static str]| proptest::sample::select(names).prop_map(Ty::Plain).boxed();
    let wider = match ty {
        Ty::Plain("int") => plain(&["int", "long", "double"]),
        Ty::Plain("float") => plain(&["float", "double"]),
        Ty::Logical("int", _) => prop_oneof![plain(&["int", "long"]), Just(same)].boxed(),
        Ty::Logical("long", _) => prop_oneof![plain(&["long"]), Just(same)].boxed(),
        Ty::Logical(..) => prop_oneof![plain(&["string"]), Just(same)].boxed(),
        Ty::Enum(count) => prop_oneof![plain(&["string"]), (*count..6).prop_map(Ty::Enum)].boxed(),
        Ty::Fixed(_) => prop_oneof![plain(&["bytes"]), Just(same)].boxed(),
        Ty::Array(items) => wider(items).prop_map(|items| Ty::Array(Box::new(items))).boxed(),
        Ty::Map(values) => wider(values).prop_map(|values| Ty::Map(Box::new(values))).boxed(),
        Ty::Optional(ty) => {
            // A union takes no union in.
            wider(ty).prop_map(|ty| if may_be_null(&ty) { ty } else { Ty::Optional(Box::new(ty)) }).boxed()
        }
        Ty::Record(fields) => {
            let types: Vec<_> = fields.iter().map(|field| wider(&field.ty)).collect();
            let names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
            let fields = types.prop_map(move |types| {
                let fields = names.iter().cloned().zip(types);
                fields.map(|(name, ty)| Field { name, ty, default: None }).collect::<Vec<_>>()
            });
            let more = Field { name: "more".to_owned(), ty: Ty::Plain("int"), default: Some(json!(1)) };
            let fields = (fields, any::<bool>(), any::<bool>()).prop_map(move |(mut fields, cut, grow)| {
                fields.truncate(if cut { 1 } else { usize::MAX });
                fields.extend(grow.then(|| more.clone()));
                fields
            });
            fields.prop_map(Ty::Record).boxed()
        }
        Ty::Plain(_) | Ty::Mixed => Just(same).boxed(),
    };
    (wider, any::<bool>())
        .prop_map(|(ty, null)| if null && !may_be_null(&ty) { Ty::Optional(Box::new(ty)) } else { ty })
        .boxed()
}

/// Mostly simple types, so that two of them often have to do with each other.
fn simple() -> impl Strategy<Value = Ty> {
    prop_oneof![4 => leaf(), 1 => leaf().prop_map(|ty| Ty::Array(Box::new(ty))), 1 => ty()]
}

fn may_be_null(ty: &Ty) -> bool {
    matches!(ty, Ty::Optional(_) | Ty::Mixed | Ty::Plain("null"))
}

/// A record of the one field `f`, and the field's type.
fn of_one(ty: &Ty) -> (Catalog, Type) {
    let field = Field { name: "f".to_owned(), ty: ty.clone(), default: None };
    let catalog = load(&[message_avsc(&[field])]).expect("a schema");
    let record = Messages::record(&catalog, "Message").expect("loaded");
    (catalog, record.fields[0].ty.clone())
}

/// Whether what was written by a wider type says the same, fields apart that it does not have.
fn says_the_same(wide: &Value, narrow: &Value) -> bool {
    match (wide, narrow) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one == other,
            (None, Some(whole)) => one.as_f64().is_some_and(|one| one as i128 == i128::from(whole)),
            _ => one.as_f64() == other.as_f64(),
        },
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| says_the_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => other
            .iter()
            .filter_map(|(name, value)| one.get(name).map(|mine| (mine, value)))
            .all(|(mine, value)| says_the_same(mine, value)),
        _ => wide == narrow,
    }
}

/// A value of one type, read from a message, is written by another and says the same.
fn fits(narrow: &Catalog, wide: &Catalog, value: &Value) -> Result<(), TestCaseError> {
    let data = Data::from_iter([("f".to_owned(), value.clone())]);
    let read =
        narrow.decode(&narrow.encode("Message", &data).expect("a value of its type")).expect("read").fields;
    let again = wide.encode("Message", &read).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let again = wide.decode(&again).expect("read").fields;
    prop_assert!(says_the_same(&again["f"], &read["f"]), "{again:?} {read:?}");
    Ok(())
}

proptest! {
    #[test]
    fn a_wider_type_is_accepted_and_takes_what_was_read(
        (ty, wider, value) in ty().prop_flat_map(|ty| (wider(&ty), ty.value(), Just(ty)))
            .prop_map(|(wider, value, ty)| (ty, wider, value)),
    ) {
        let ((narrow, narrow_type), (wide, wide_type)) = (of_one(&ty), of_one(&wider));
        prop_assert!(wide_type.accepts(&narrow_type), "{wide_type} takes {narrow_type}");
        fits(&narrow, &wide, &value)?;
    }

    #[test]
    fn whatever_type_is_accepted_takes_what_was_read(
        (ty, value) in simple().prop_flat_map(|ty| (Just(ty.clone()), ty.value())),
        other in simple(),
    ) {
        let ((narrow, narrow_type), (wide, wide_type)) = (of_one(&ty), of_one(&other));
        if wide_type.accepts(&narrow_type) {
            fits(&narrow, &wide, &value)?;
        }
    }
}
