//! The participant that owns bookings and the capacity of resources.
