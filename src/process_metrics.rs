//! What the process uses, as `process_*` metrics: `etcdctl check datascale` and
//! dashboards read them.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// Reads `/proc/self` whenever metrics are asked for.
struct ProcessMetrics {
    cpu_seconds: Counter,
    open_fds: Gauge,
    max_fds: Gauge,
    virtual_bytes: Gauge,
    resident_bytes: Gauge,
    start_seconds: Gauge,
    /// The same two under the names etcd gives them.
    used_fds: Gauge,
    limit_fds: Gauge,
}

/// Exports the metrics.
///
/// # Errors
/// They are exported already.
pub(crate) fn export() -> prometheus::Result<()> {
    prometheus::register(Box::new(ProcessMetrics::new()?))
}

impl ProcessMetrics {
    fn new() -> prometheus::Result<ProcessMetrics> {
        Ok(ProcessMetrics {
            cpu_seconds: Counter::new(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
            )?,
            open_fds: Gauge::new("process_open_fds", "Number of open file descriptors.")?,
            max_fds: Gauge::new("process_max_fds", "Maximum number of open file descriptors.")?,
            virtual_bytes: Gauge::new("process_virtual_memory_bytes", "Virtual memory size in bytes.")?,
            resident_bytes: Gauge::new("process_resident_memory_bytes", "Resident memory size in bytes.")?,
            start_seconds: Gauge::new(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            )?,
            used_fds: Gauge::new("os_fd_used", "The number of used file descriptors.")?,
            limit_fds: Gauge::new("os_fd_limit", "The file descriptor limit.")?,
        })
    }

    fn refresh(&self) {
        if let Some(usage) = Usage::read() {
            self.cpu_seconds.inc_by((usage.cpu_seconds - self.cpu_seconds.get()).max(0.0));
            self.virtual_bytes.set(usage.virtual_bytes);
            self.resident_bytes.set(usage.resident_bytes);
            self.start_seconds.set(usage.start_seconds);
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds.set(entries.count() as f64);
            self.used_fds.set(self.open_fds.get());
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        self.max_fds.set(limit.current.map_or(f64::INFINITY, |most| most as f64));
        self.limit_fds.set(self.max_fds.get());
    }

    fn all(&self) -> [&dyn Collector; 8] {
        [
            &self.cpu_seconds,
            &self.open_fds,
            &self.max_fds,
            &self.virtual_bytes,
            &self.resident_bytes,
            &self.start_seconds,
            &self.used_fds,
            &self.limit_fds,
        ]
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}

/// What `/proc/self/stat` tells.
struct Usage {
    cpu_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
    start_seconds: f64,
}

impl Usage {
    fn read() -> Option<Usage> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let system = std::fs::read_to_string("/proc/stat").ok()?;
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Usage::parse(&stat, boot)
    }

    /// Fields as in proc(5), counted behind the name, which may hold anything.
    fn parse(stat: &str, boot_seconds: f64) -> Option<Usage> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // The first field behind the name is number 3.
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Some(Usage {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            start_seconds: boot_seconds + field(22)? / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * rustix::param::page_size() as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let metrics = ProcessMetrics::new().unwrap();
        assert_eq!(metrics.collect().len(), 8);
        assert!(metrics.resident_bytes.get() > 100_000.0);
        assert!(metrics.virtual_bytes.get() >= metrics.resident_bytes.get());
        assert!(metrics.open_fds.get() > 0.0 && metrics.max_fds.get() >= metrics.open_fds.get());
        assert!(metrics.start_seconds.get() > 1.0e9);
    }

    #[test]
    fn a_name_with_parentheses_confuses_nothing() {
        let stat = "1 (a) b (c)) S 0 0 0 0 0 0 0 0 0 0 100 200 0 0 20 0 4 0 500 4096 3 0";
        let usage = Usage::parse(stat, 1000.0).unwrap();
        assert_eq!(usage.virtual_bytes, 4096.0);
        assert!(usage.cpu_seconds > 0.0 && usage.start_seconds > 1000.0);
        assert!(Usage::parse("nonsense", 0.0).is_none());
    }
}
