//! What the orchestrators say of themselves at `/metrics`.

use std::collections::BTreeMap;

use anyhow::Result;

use super::stack::Stack;

/// Every series of all orchestrators together: the sums of those with the same name and labels.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub(crate) async fn now(stack: &Stack) -> Result<Self> {
        let mut all = Self::default();
        for orchestrator in stack.running() {
            all.add(&orchestrator.api.get("/metrics").await?.text);
        }
        Ok(all)
    }

    fn add(&mut self, text: &str) {
        let series =
            text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        for (name, value) in series {
            *self.0.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap_or(0.0);
        }
    }

    /// How much a series without labels has grown since `earlier`.
    pub(crate) fn growth(&self, earlier: &Self, name: &str) -> f64 {
        let value = |metrics: &Self| metrics.0.get(name).copied().unwrap_or(0.0);
        value(self) - value(earlier)
    }

    /// How much all series of that name have grown since `earlier`, whatever their labels.
    pub(crate) fn growth_of_all(&self, earlier: &Self, name: &str) -> f64 {
        let series = self.0.keys().filter(|series| series.split('{').next() == Some(name));
        series.map(|series| self.growth(earlier, series)).sum()
    }

    /// The histograms of that name, each as the labels that its series have.
    pub(crate) fn histograms(&self, name: &str) -> Vec<String> {
        let labels = |series: &String| {
            let labels = series.strip_prefix(name)?.strip_prefix("_count{")?.strip_suffix('}')?;
            Some(labels.to_owned())
        };
        self.0.keys().filter_map(labels).collect()
    }

    /// A quantile of what a histogram with these labels, or with `""`, has taken since `earlier`; within a bucket values are
    /// taken for evenly spread. `None` if it has taken nothing, or is not there.
    pub(crate) fn quantile(&self, earlier: &Self, name: &str, labels: &str, quantile: f64) -> Option<f64> {
        let prefix = format!("{name}_bucket{{");
        let mut buckets: Vec<(f64, f64)> = self
            .0
            .keys()
            .filter_map(|series| {
                let (others, bound) = split_bound(series.strip_prefix(&prefix)?.strip_suffix('}')?)?;
                (others == labels).then(|| (bound, self.growth(earlier, series)))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted = buckets.last()?.1 * quantile;
        let mut below = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= wanted && count > below.1 {
                let share = (wanted - below.1) / (count - below.1);
                let bound = if bound.is_finite() { bound } else { below.0 };
                return Some(below.0 + (bound - below.0) * share);
            }
            below = (bound, count);
        }
        None
    }
}

/// The labels of a bucket: those of its histogram, and its upper bound.
fn split_bound(labels: &str) -> Option<(String, f64)> {
    let (before, rest) = labels.split_once("le=\"")?;
    let (bound, after) = rest.split_once('"')?;
    Some((format!("{before}{after}").trim_matches(',').to_owned(), bound.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(counts: [u32; 3]) -> Metrics {
        let mut metrics = Metrics::default();
        let [one, two, all] = counts;
        metrics.add(&format!(
            "# HELP t_bucket a\nt_bucket{{le=\"1\"}} {one}\nt_bucket{{le=\"2\"}} {two}\nt_bucket{{le=\"+Inf\"}} {all}\nt_count {all}\n"
        ));
        metrics
    }

    #[test]
    fn quantiles_are_of_what_came_between() {
        let (earlier, later) = (metrics([100, 100, 100]), metrics([150, 200, 200]));
        assert_eq!(later.growth(&earlier, "t_count"), 100.0);
        assert_eq!(later.growth_of_all(&earlier, "t_bucket"), 50.0 + 100.0 + 100.0);
        assert_eq!(later.quantile(&earlier, "t", "", 0.5), Some(1.0));
        assert_eq!(later.quantile(&earlier, "t", "", 0.75), Some(1.5));
        assert_eq!(later.quantile(&later, "t", "", 0.5), None);
        assert_eq!(later.quantile(&earlier, "other", "", 0.5), None);
        assert_eq!(
            metrics([0, 0, 10]).quantile(&metrics([0, 0, 0]), "t", "", 0.5),
            Some(2.0),
            "no bound is known"
        );
    }

    #[test]
    fn histograms_with_labels_are_told_apart() {
        let mut metrics = Metrics::default();
        for (step, one, all) in [("a", 4, 4), ("b", 0, 4)] {
            metrics.add(&format!(
                "t_bucket{{step=\"{step}\",le=\"1\"}} {one}\nt_bucket{{step=\"{step}\",le=\"3\"}} {all}\nt_count{{step=\"{step}\"}} {all}\n"
            ));
        }
        assert_eq!(metrics.histograms("t"), ["step=\"a\"", "step=\"b\""]);
        let median = |labels| metrics.quantile(&Metrics::default(), "t", labels, 0.5);
        assert_eq!((median("step=\"a\""), median("step=\"b\""), median("")), (Some(0.5), Some(2.0), None));
    }
}
