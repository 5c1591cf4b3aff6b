//! Discovery by a library that the test compiles, and who gets what.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use mezzo_agent_accounting::{Access, Device};
use mezzo_types::ContainerId;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use proptest::prelude::*;

use super::holdings::Holdings;
use super::nvml::{self, Answer};
use super::*;

/// GPUs as the kernel numbers NVIDIA's (Linux, `Documentation/admin-guide/devices.txt`).
const NVIDIA: u32 = 195;

/// The stub of NVML, compiled into `directory`.
fn library(directory: &Path, variant: &str) -> PathBuf {
    let path = directory.join(format!("libnvidia-ml-{variant}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gpus/stub_nvml.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", &format!("-D{variant}"), "-o"])
        .args([&path, &source])
        .status()
        .expect("there is a C compiler");
    assert!(built.success());
    path
}

fn node(directory: &Path, name: &str, minor: u32) -> PathBuf {
    let path = directory.join(name);
    let numbers = makedev(u64::from(NVIDIA), u64::from(minor));
    mknod(&path, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, numbers)
        .expect("makes nodes: run as root");
    path
}

fn asked(path: impl AsRef<OsStr>, nodes: &Path) -> Inventory {
    match nvml::ask(Some(path.as_ref()), nodes) {
        Answer::Found(inventory) => inventory,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nvml_tells_of_gpus_that_have_nodes() {
    let directory = tempfile::tempdir().expect("tempdir");
    let nodes = directory.path();
    let whole = library(nodes, "WHOLE");
    assert!(asked(&whole, nodes).is_empty(), "without nodes nobody can use them");
    let paths = [node(nodes, "nvidia0", 0), node(nodes, "nvidia1", 1)];
    let found = asked(&whole, nodes);
    let of = |id: &str, minor: u32| Gpu {
        id: id.to_owned(),
        path: paths[minor as usize].clone(),
        device: Device::character(NVIDIA, minor, Access::READ_WRITE),
        maker: Maker::Nvidia,
    };
    let first = of("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", 0);
    assert_eq!(found.gpus(), [first.clone(), of("GPU-02c7b2e0-3d4a-4f0b-9b67-5c2f6e1a7d11", 1)]);
    assert_eq!(asked(library(nodes, "HALF"), nodes).gpus(), [first]);
}

#[test]
fn a_library_that_fails_is_told_from_one_that_is_not_there() {
    let directory = tempfile::tempdir().expect("tempdir");
    let broken = library(directory.path(), "BROKEN");
    assert!(matches!(nvml::ask(Some(broken.as_os_str()), directory.path()), Answer::Failed(_)));
    let no_library = directory.path().join("empty.so");
    std::fs::write(&no_library, "").expect("writes");
    assert!(matches!(nvml::ask(Some(no_library.as_os_str()), directory.path()), Answer::Failed(_)));
    // As `libnvidia-ml.so.1` is on most machines: nowhere that the loader looks.
    let absent = nvml::ask(Some(OsStr::new("libmezzo-nowhere.so.1")), directory.path());
    assert!(matches!(absent, Answer::Absent), "{absent:?}");
    // A machine whose library fails has no GPUs, and starts.
    let options = GpuOptions { nvml_library: Some(broken), ..GpuOptions::default() };
    assert!(discover(&options).expect("goes on").is_empty());
    let options = GpuOptions { nvml_library: Some("/no/such.so".into()), ..GpuOptions::default() };
    let refused = discover(&options).expect_err("the operator named it").to_string();
    assert!(
        refused.starts_with("--nvml-library names /no/such.so, which is not there"),
        "{refused}"
    );
}

#[test]
fn named_nodes_are_gpus() {
    let directory = tempfile::tempdir().expect("tempdir");
    let paths = [node(directory.path(), "a", 240), node(directory.path(), "b", 241)];
    let named = |paths: &[PathBuf]| {
        let options = GpuOptions { devices: paths.to_vec(), ..GpuOptions::default() };
        discover(&options).map_err(|error| crate::containerizer::chain(&error))
    };
    let found = named(&paths).expect("are there");
    let ids: Vec<&str> = found.gpus().iter().map(|gpu| gpu.id.as_str()).collect();
    assert_eq!(ids, [paths[0].to_str().unwrap(), paths[1].to_str().unwrap()]);
    assert_eq!(found.gpus()[1].device, Device::character(NVIDIA, 241, Access::READ_WRITE));

    // By another path it is the same one, also to records of a time when it was called so.
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&paths[1], &link).expect("links");
    assert_eq!(found.find(link.to_str().unwrap()), Some(&found.gpus()[1]));
    assert_eq!(found.find("/dev/null"), None);

    let again = node(directory.path(), "again", 240);
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("writes");
    for (path, words) in [
        (PathBuf::from("nvidia0"), "'nvidia0' is no absolute path"),
        (directory.path().join("missing"), "missing cannot be looked at"),
        (file, "file is no device node"),
        (again, "again is the same device as another"),
    ] {
        let refused = named(&[paths[0].clone(), path]).expect_err(words);
        assert!(
            refused.starts_with("--gpu-devices cannot be used") && refused.contains(words),
            "{refused}"
        );
    }
}

fn holdings(ids: &[&str]) -> Holdings {
    Holdings::new(ids.iter().map(|id| (*id).to_owned()))
}

#[test]
fn a_gpu_is_one_containers_until_that_is_gone() {
    let [one, two, three, four] = ["one", "two", "three", "four"].map(ContainerId::from);
    let mut gpus = holdings(&["a", "b", "c"]);
    assert_eq!(gpus.resize(&one, 0), Ok(vec![]));
    assert_eq!(gpus.resize(&one, 1), Ok(vec!["a".to_owned()]));
    assert_eq!(gpus.resize(&one, 3), Ok(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
    assert_eq!(gpus.resize(&one, 4).expect_err("there are three").free, 0);
    assert_eq!(gpus.resize(&one, 1), Ok(vec!["a".to_owned()]), "the last ones go first");
    assert_eq!(gpus.resize(&one, 0), Ok(vec![]));
    assert_eq!(gpus.assign(&one, 0), Ok(vec![]));
    assert_eq!(gpus.assign(&one, 2), Ok(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(gpus.assign(&one, 2), Ok(vec!["a".to_owned(), "b".to_owned()]), "it keeps them");
    assert_eq!(gpus.assign(&two, 1), Ok(vec!["c".to_owned()]));
    let refused = gpus.assign(&three, 1).expect_err("none is free");
    assert_eq!(refused.to_string(), "1 GPUs are wanted, but only 0 of 3 are free");
    assert_eq!(gpus.of(&three), [""; 0]);
    // The master knows of the end before the container is gone.
    gpus.end(&one);
    assert_eq!(gpus.assign(&three, 1), Ok(vec!["a".to_owned()]));
    assert!(!gpus.has_all(&three) && gpus.has_all(&one));
    assert_eq!(gpus.assign(&four, 2).expect_err("one is promised").free, 1);
    assert!(gpus.release(&one) && !gpus.release(&one));
    assert!(gpus.has_all(&three));
    assert_eq!(gpus.assign(&four, 1), Ok(vec!["b".to_owned()]));
    // One that gives up before its turn is out of the way.
    gpus.end(&three);
    assert_eq!(gpus.assign(&one, 1), Ok(vec!["a".to_owned()]));
    gpus.end(&one);
    gpus.release(&one);
    assert_eq!(gpus.of(&three), ["a"]);
}

#[test]
fn records_are_taken_up() {
    let [runs, waited, new] = ["z-runs", "a-waited", "new"].map(ContainerId::from);
    let mut gpus = holdings(&["a", "b"]);
    // Whatever the order of the records, what may run comes first.
    gpus.recover(&waited, &["a".to_owned()], false);
    gpus.recover(&runs, &["a".to_owned(), "gone".to_owned()], true);
    assert!(gpus.has_all(&runs) && !gpus.has_all(&waited));
    assert_eq!(gpus.assign(&new, 1), Ok(vec!["b".to_owned()]), "neither a held nor an unknown one");
    assert_eq!(gpus.of(&runs), ["a", "gone"]);
    gpus.release(&runs);
    gpus.release(&new);
    gpus.release(&waited);
    assert_eq!(gpus.assign(&new, 3).expect_err("two are there").all, 2);
}

#[tokio::test]
async fn the_next_container_waits_for_its_turn() {
    let [one, two] = ["one", "two"].map(ContainerId::from);
    let device = Device::character(NVIDIA, 0, Access::READ_WRITE);
    let gpu = Gpu { id: "a".into(), path: "/dev/a".into(), device, maker: Maker::Unknown };
    let gpus = Gpus::new(Inventory::new(vec![gpu]).0, 1);
    gpus.assign(&one, 1).expect("is free");
    gpus.turn(&one).await;
    gpus.ending(&one);
    gpus.assign(&two, 1).expect("is becoming free");
    let mut turn = std::pin::pin!(gpus.turn(&two));
    assert!(futures::poll!(&mut turn).is_pending());
    gpus.release(&one);
    turn.await;
}

proptest! {
    /// Whatever happens, in whatever order: whoever lives shares with nobody, and gets what it asked for or nothing.
    #[test]
    fn no_two_share(steps in proptest::collection::vec((0..3, 0..6usize, 1..4usize), 1..60)) {
        let mut gpus = holdings(&["a", "b", "c", "d"]);
        let ids: Vec<ContainerId> = (0..6).map(|n| format!("c{n}").as_str().into()).collect();
        let mut ending = [false; 6];
        for (step, n, wanted) in steps {
            let had = gpus.of(&ids[n]).len();
            match step {
                0 if !ending[n] => match gpus.assign(&ids[n], wanted) {
                    Ok(given) => prop_assert_eq!(given.len(), if had > 0 { had } else { wanted }),
                    Err(few) => prop_assert!(few.free < wanted && gpus.of(&ids[n]).is_empty()),
                },
                1 => { gpus.end(&ids[n]); ending[n] = had > 0; }
                2 => { gpus.release(&ids[n]); ending[n] = false; }
                _ => {}
            }
            for (n, one) in ids.iter().enumerate() {
                for (m, other) in ids.iter().enumerate().skip(n + 1) {
                    let mine = gpus.of(one);
                    let shared = gpus.of(other).iter().any(|id| mine.contains(id));
                    prop_assert!(!shared || ending[n] || ending[m]);
                    prop_assert!(!shared || !gpus.has_all(one) || !gpus.has_all(other));
                }
            }
        }
        ids.iter().for_each(|id| { gpus.release(id); });
        prop_assert_eq!(gpus.assign(&ids[0], 4).map(|given| given.len()), Ok(4));
    }
}
