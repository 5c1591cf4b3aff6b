//! The machine: processors, load and memory, read when asked for.

use std::path::Path;

use crate::readings::Readings;

/// Fills in `system/…` from the files of a `/proc` and a `/sys`; what cannot be read is left out.
pub(crate) fn read(proc: &Path, sys: &Path, readings: &mut Readings) {
    let file = |path: &Path| std::fs::read_to_string(path).ok();
    if let Some(cpus) =
        file(&sys.join("devices/system/cpu/online")).and_then(|text| count_cpus(&text))
    {
        readings.gauge("system/cpus_total", cpus as f64);
    }
    if let Some([one, five, fifteen]) = file(&proc.join("loadavg")).and_then(|text| loads(&text)) {
        readings.gauge("system/load_1min", one);
        readings.gauge("system/load_5min", five);
        readings.gauge("system/load_15min", fifteen);
    }
    if let Some(text) = file(&proc.join("meminfo")) {
        for (key, name) in
            [("MemTotal:", "system/mem_total_bytes"), ("MemFree:", "system/mem_free_bytes")]
        {
            if let Some(bytes) = meminfo_bytes(&text, key) {
                readings.gauge(name, bytes as f64);
            }
        }
    }
}

/// `0-3,8` is five.
fn count_cpus(online: &str) -> Option<u64> {
    online.trim().split(',').try_fold(0, |count, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        Some(count + last.checked_sub(first)? + 1)
    })
}

fn loads(loadavg: &str) -> Option<[f64; 3]> {
    let mut fields = loadavg.split_ascii_whitespace().map(|field| field.parse().ok());
    Some([fields.next()??, fields.next()??, fields.next()??])
}

fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_formats_of_the_kernel() {
        assert_eq!(count_cpus("0-3,8\n"), Some(5));
        assert_eq!(count_cpus("0\n"), Some(1));
        assert_eq!(count_cpus("3-0"), None);
        assert_eq!(loads("0.50 1.25 2.00 3/456 789\n"), Some([0.5, 1.25, 2.0]));
        assert_eq!(loads("0.50"), None);
        let meminfo = "MemTotal:       16384 kB\nMemFree:            1 kB\n";
        assert_eq!(meminfo_bytes(meminfo, "MemTotal:"), Some(16_777_216));
        assert_eq!(meminfo_bytes(meminfo, "MemFree:"), Some(1024));
        assert_eq!(meminfo_bytes(meminfo, "SwapFree:"), None);
    }

    #[test]
    fn this_machine_has_processors_and_memory() {
        let mut readings = Readings::default();
        read(Path::new("/proc"), Path::new("/sys"), &mut readings);
        let names: Vec<&str> = readings.values.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "system/cpus_total",
                "system/load_15min",
                "system/load_1min",
                "system/load_5min",
                "system/mem_free_bytes",
                "system/mem_total_bytes"
            ]
        );
        let mut none = Readings::default();
        read(Path::new("/nonexistent"), Path::new("/nonexistent"), &mut none);
        assert!(none.values.is_empty());
    }
}
