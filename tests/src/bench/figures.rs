//! Figures by name, and what several runs of the same say of one.

use hdrhistogram::Histogram;
use serde::Serialize;

/// One figure of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

/// The figures of one run, in the order in which they are shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Figures(pub(crate) Vec<Figure>);

impl Figures {
    pub(crate) fn add(
        &mut self,
        group: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        value: f64,
    ) {
        self.0.push(Figure { group, name: name.into(), unit, value });
    }

    /// The usual quantiles of times in microseconds; nothing if there are none.
    pub(crate) fn add_times(&mut self, group: &'static str, times: &Histogram<u64>) {
        if times.is_empty() {
            return;
        }
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            self.add(group, name, "ms", times.value_at_quantile(quantile) as f64 / 1000.0);
        }
        self.add(group, "samples", "", times.len() as f64);
    }

    pub(crate) fn get(&self, group: &str, name: &str) -> Option<f64> {
        self.0.iter().find(|figure| figure.group == group && figure.name == name).map(|figure| figure.value)
    }
}

/// What several runs say of one figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { min, median, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0]), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
        assert_eq!(Spread::of(vec![]), None);
    }

    #[test]
    fn quantiles_are_found_again_by_name() {
        let mut times = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        for time in 1..=1000 {
            times.record(time * 1000).unwrap();
        }
        let mut figures = Figures::default();
        figures.add_times("latency", &times);
        let near = |name, value: f64| (figures.get("latency", name).unwrap() / value - 1.0).abs() < 0.002;
        assert!(near("p50", 500.0) && near("p99", 990.0) && near("p99.9", 999.0) && near("max", 1000.0));
        assert_eq!(figures.get("latency", "p42"), None);
    }
}
