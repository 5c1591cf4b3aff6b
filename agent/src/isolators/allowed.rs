//! `--allowed-devices`: devices for every container.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mezzo_agent_accounting::{Access, Device, DeviceKind};
use serde_json::Value;

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

/// The device behind a node.
///
/// # Errors
/// When there is no node, or it is something else.
pub fn device(path: &Path, access: Access) -> Result<Device, AllowedDevicesError> {
    let missing = |source| AllowedDevicesError::Missing { path: path.to_owned(), source };
    let data = std::fs::metadata(path).map_err(missing)?;
    let kind = match data.file_type() {
        kind if kind.is_char_device() => DeviceKind::Character,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return Err(AllowedDevicesError::NoDevice { path: path.to_owned() }),
    };
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let (major, minor) = (nix::sys::stat::major(data.rdev()), nix::sys::stat::minor(data.rdev()));
    Ok(Device { kind, major: number(major), minor: Some(number(minor)), access })
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
