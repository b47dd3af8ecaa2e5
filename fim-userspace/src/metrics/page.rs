//! One reading: families of samples, as Prometheus' text format 0.0.4 or as JSON.

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric as Sample, MetricFamily, MetricType};
use serde_json::{Map, Value, json};

use super::table::{ALL, Kind, Metric};

#[derive(Default)]
pub struct Page(Vec<MetricFamily>);

impl Page {
    /// Adds a metric's samples: the values of its labels, and the value. A metric without samples is left out.
    pub fn put(&mut self, metric: &Metric, samples: impl IntoIterator<Item = (Vec<String>, f64)>) {
        let samples: Vec<Sample> =
            samples.into_iter().map(|(labels, value)| sample(metric, labels, value)).collect();
        if samples.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(metric.name.into());
        family.set_help(metric.help.into());
        family.set_field_type(match metric.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(samples);
        self.0.push(family);
    }

    pub fn one(&mut self, metric: &Metric, value: f64) {
        self.put(metric, [(Vec::new(), value)]);
    }

    /// Adds what was counted by the library's own means.
    pub fn counted(&mut self, families: Vec<MetricFamily>) {
        self.0.extend(families.into_iter().filter(|family| !family.get_metric().is_empty()));
    }

    /// In the order of the table, and each family by its labels.
    fn sorted(mut self) -> Vec<MetricFamily> {
        let labels = |sample: &Sample| -> Vec<String> {
            sample.get_label().iter().map(|pair| pair.value().to_owned()).collect()
        };
        self.0.iter_mut().for_each(|family| family.mut_metric().sort_by_cached_key(labels));
        let place = |family: &MetricFamily| ALL.iter().position(|metric| metric.name == family.name());
        self.0.sort_by_key(place);
        self.0
    }

    pub fn text(self) -> Result<String, String> {
        let failed = |e| format!("the metrics cannot be written ({e}); report this");
        TextEncoder::new().encode_to_string(&self.sorted()).map_err(failed)
    }

    /// One object a sample, each on a line of its own.
    pub fn json(self) -> String {
        let mut out = String::new();
        for family in self.sorted() {
            for sample in family.get_metric() {
                out.push_str(&object(&family, sample).to_string());
                out.push('\n');
            }
        }
        out
    }
}

fn sample(metric: &Metric, labels: Vec<String>, value: f64) -> Sample {
    let pair = |(name, value): (&&str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).into());
        pair.set_value(value);
        pair
    };
    let mut sample = Sample::from_label(metric.labels.iter().zip(labels).map(pair).collect());
    match metric.kind {
        Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(value);
            sample.set_counter(counter);
        }
        Kind::Gauge | Kind::Histogram => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            sample.set_gauge(gauge);
        }
    }
    sample
}

fn object(family: &MetricFamily, sample: &Sample) -> Value {
    let labels: Map<String, Value> =
        sample.get_label().iter().map(|pair| (pair.name().to_owned(), pair.value().into())).collect();
    let kind = family.get_field_type();
    let mut object =
        json!({ "name": family.name(), "type": format!("{kind:?}").to_lowercase(), "labels": labels });
    match kind {
        MetricType::HISTOGRAM => {
            let histogram = sample.get_histogram();
            let buckets = histogram.get_bucket().iter();
            let buckets: Vec<Value> =
                buckets.map(|b| json!({ "le": b.upper_bound(), "count": b.cumulative_count() })).collect();
            object["count"] = histogram.get_sample_count().into();
            object["sum"] = histogram.get_sample_sum().into();
            object["buckets"] = buckets.into();
        }
        MetricType::COUNTER => object["value"] = sample.get_counter().get_value().into(),
        _ => object["value"] = sample.get_gauge().get_value().into(),
    }
    object
}
