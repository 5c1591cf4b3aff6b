//! `--allowed-devices`: devices for every container.

use std::io;
use std::path::{Path, PathBuf};

use mezzo_agent_accounting::{Access, Device};
use serde_json::Value;

use crate::device_node::{NodeError, device_at};

/// Why `--allowed-devices` cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum AllowedDevicesError {
    #[error(
        "--allowed-devices: '{text}' is no device; name it as PATH or PATH:ACCESS, such as /dev/fuse:rw"
    )]
    Entry { text: String },
    #[error(
        "--allowed-devices: '{access}' is no access; give some of r (read), w (write) and m (mknod)"
    )]
    Access { access: String },
    #[error(r#"--allowed-devices: {json} is no list of devices as Mesos writes it: {{"allowed_devices":[{{"device":{{"path":"/dev/fuse"}},"access":{{"read":true,"write":true,"mknod":false}}}}]}}"#)]
    Json { json: String },
    #[error("--allowed-devices: there is no device {path}")]
    Missing {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("--allowed-devices: {path} is not a device")]
    NoDevice { path: PathBuf },
    #[error("--allowed-devices names a device that cannot be allowed")]
    Node(#[source] NodeError),
}

/// Reads `PATH[:ACCESS],…`, or JSON as Mesos has it. A device is known by its numbers from here on.
///
/// # Errors
/// When it cannot be read, or names what is no device now.
pub fn allowed_devices(text: &str) -> Result<Vec<Device>, AllowedDevicesError> {
    let text = text.trim();
    if text.starts_with('{') {
        return json(text);
    }
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries.map(entry).collect()
}

fn entry(text: &str) -> Result<Device, AllowedDevicesError> {
    let (path, access) = text.rsplit_once(':').unwrap_or((text, "rw"));
    if !path.starts_with('/') {
        return Err(AllowedDevicesError::Entry { text: text.to_owned() });
    }
    if access.is_empty() || !access.chars().all(|c| "rwm".contains(c)) {
        return Err(AllowedDevicesError::Access { access: access.to_owned() });
    }
    let has = |letter| access.contains(letter);
    device(Path::new(path), Access { read: has('r'), write: has('w'), mknod: has('m') })
}

/// Mesos' `DeviceWhitelist`.
fn json(text: &str) -> Result<Vec<Device>, AllowedDevicesError> {
    let unreadable = || AllowedDevicesError::Json { json: text.to_owned() };
    let value: Value = serde_json::from_str(text).map_err(|_| unreadable())?;
    let list = value["allowed_devices"].as_array().ok_or_else(unreadable)?;
    let one = |entry: &Value| {
        let path = entry["device"]["path"].as_str().ok_or_else(unreadable)?;
        let may = |name: &str| entry["access"][name].as_bool().unwrap_or(false);
        let access = Access { read: may("read"), write: may("write"), mknod: may("mknod") };
        device(Path::new(path), access)
    };
    list.iter().map(one).collect()
}

fn device(path: &Path, access: Access) -> Result<Device, AllowedDevicesError> {
    device_at(path, access).map_err(|error| match error {
        NodeError::Look { path, source } => AllowedDevicesError::Missing { path, source },
        NodeError::NoDevice { path } => AllowedDevicesError::NoDevice { path },
        error @ NodeError::Numbers { .. } => AllowedDevicesError::Node(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let null = |access| Device::character(1, 3, access);
        assert_eq!(allowed_devices("").unwrap(), []);
        let list = allowed_devices("/dev/null, /dev/zero:rwm").unwrap();
        assert_eq!(list, [null(Access::READ_WRITE), Device::character(1, 5, Access::ALL)]);
        let json =
            r#"{"allowed_devices":[{"device":{"path":"/dev/null"},"access":{"read":true}}]}"#;
        assert_eq!(allowed_devices(json).unwrap(), [null(Access::READ)]);
    }

    #[test]
    fn what_is_no_device_is_told() {
        for (text, told) in [
            ("null", "'null' is no device; name it as PATH"),
            ("/dev/null:x", "'x' is no access"),
            ("/dev/null:", "'' is no access"),
            ("/dev/there-is-none", "there is no device /dev/there-is-none"),
            ("/tmp", "/tmp is not a device"),
            ("{", "is no list of devices"),
            (r#"{"allowed_devices":[{}]}"#, "is no list of devices"),
        ] {
            let error = allowed_devices(text).expect_err(text).to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
