//! Recipes whose steps are in a wrong order, and the run that shows why it is wrong.

use insta::assert_snapshot;
use saga_defs::definition::Definition;
use saga_model::{Bounds, Real, Verdict, check};

use crate::shape::{shape, wrong};

/// The order is refused with a sentence; this is the run that shows why.
#[test]
fn a_charge_that_cannot_be_undone_before_the_reservation() {
    let text = "
        name = 'shop'
        version = 1
        input = 'shop.Start'
        [[step]]
        name = 'charge-payment'
        participant = 'payment'
        kind = 'retriable'
        command = 'payment.Charge'
        reply = 'payment.Charged'
        [[step]]
        name = 'reserve-goods'
        participant = 'stock'
        kind = 'compensatable'
        command = 'stock.Reserve'
        reply = 'stock.Reserved'
        compensation = 'stock.Release'
    ";
    let refused = Definition::parse(text).expect_err("a wrong order");
    let misordered = refused.misordered.expect("the order is all that is wrong");
    let Verdict::Wrong { property, transcript } = check(&misordered, Bounds::WAITED_FOR) else {
        panic!("a run goes wrong");
    };
    assert_snapshot!(format!("not kept: {property}\n{transcript}"), @r"
        not kept: nothing is undone past the point of no return
        start                        -> charge-payment #1
          payment: charge-payment #1 -> done
        charge-payment succeeded     -> reserve-goods #1
          stock: reserve-goods #1    -> refused
        reserve-goods rejected       -> undo charge-payment #1  refused
        = compensating: compensating, rejected
        = really done: charge-payment (nothing undoes it)
    ");
}

#[test]
fn a_second_pivot() {
    assert_snapshot!(wrong(&Real, &shape("pp"), 1), @r"
        not kept: nothing is undone past the point of no return
        start            -> step-1 #1
          p1: step-1 #1  -> done
        step-1 succeeded -> step-2 #1
          p2: step-2 #1  -> refused
        step-2 rejected  -> undo step-1 #1  refused
        = compensating: compensating, rejected
        = really done: step-1 (nothing undoes it)
    ");
}

#[test]
fn a_compensatable_step_after_the_pivot() {
    assert_snapshot!(wrong(&Real, &shape("pc"), 1), @r"
        not kept: nothing is undone past the point of no return
        start            -> step-1 #1
          p1: step-1 #1  -> done
        step-1 succeeded -> step-2 #1
          p2: step-2 #1  -> refused
        step-2 rejected  -> undo step-1 #1  refused
        = compensating: compensating, rejected
        = really done: step-1 (nothing undoes it)
    ");
}
