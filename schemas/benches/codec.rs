//! What the codec costs: messages of a booking to bytes and back. `cargo bench -p schemas`.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use schemas::{Catalog, Data};
use serde_json::json;

const ID: &str = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b";

/// The data of a booking before its payment.
fn booking() -> Data {
    let data = json!({
        "sagaId": ID, "bookingId": ID, "userId": ID, "resourceId": ID, "reference": ID, "amountMinor": 12_345,
        "currency": "EUR", "forcedPaymentOutcome": null, "reservedAt": 1_800_000_000_000_i64, "paymentId": ID,
    });
    data.as_object().unwrap().clone()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let catalog = Catalog::shipped();
    let data = booking();
    for message in [
        "booking.ReserveBooking",
        "payment.ChargePayment",
        "payment.PaymentCompleted",
        "booking.BookingReserved",
    ] {
        let bytes = catalog.encode(message, &data).unwrap();
        let mut group = criterion.benchmark_group(message);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("to bytes", |b| b.iter(|| catalog.encode(message, black_box(&data)).unwrap()));
        group.bench_function("from bytes", |b| {
            b.iter(|| catalog.decode_as(message, black_box(&bytes)).unwrap())
        });
    }
    let mut group = criterion.benchmark_group("a batch of 256 commands");
    group.throughput(Throughput::Elements(256));
    group.bench_function("to bytes", |b| {
        b.iter(|| {
            let batch = (0..256).map(|n| {
                let message = ["booking.ReserveBooking", "payment.ChargePayment"][n % 2];
                catalog.encode(message, black_box(&data)).unwrap()
            });
            batch.collect::<Vec<_>>()
        })
    });
    group.finish();
    criterion.final_summary();
}
