//! Everything that is put in place before a process exists.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mezzo_agent_accounting::{Devices, Grant};
use mezzo_agent_launcher::{Launch, Namespaces, create_exit_file};

use super::command::CommandLine;
use super::environment::environment;
use super::handle::Shared;
use super::report::chain;
use super::support;
use super::user::User;
use super::{DeviceGuard, LaunchSpec, LaunchStage, Places};
use crate::accounts::Holder;
use crate::cgroups::ContainerCgroup;
use crate::isolators::{Demand, NamespaceSet};
use crate::sandbox::{Owner, Sandbox, SandboxOf};
use crate::volumes;

/// A launch that went wrong, told in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) stage: LaunchStage,
    pub(super) message: String,
}

impl Failed {
    pub(super) fn at(stage: LaunchStage) -> impl Fn(&dyn Error) -> Failed {
        move |error| Failed { stage, message: chain(error) }
    }

    pub(super) fn cancelled(stage: LaunchStage) -> Failed {
        Failed { stage, message: "the launch was cancelled".to_owned() }
    }
}

/// The first half: nothing of the kernel's yet.
#[derive(Debug)]
pub(super) struct Housed {
    sandbox: Sandbox,
    user: User,
    command: CommandLine,
    environment: Vec<(OsString, OsString)>,
    demand: Demand,
    namespaces: NamespaceSet,
    grant: Grant,
    hostname: Option<String>,
}

/// Ready for the launcher.
#[derive(Debug)]
pub(super) struct Staged {
    housed: Housed,
    pub(super) cgroup: ContainerCgroup,
    procs: Vec<OwnedFd>,
    exit_file: File,
}

/// Reads the task, makes its sandbox and fetches its URIs. Blocks.
pub(super) fn house(
    shared: &Shared,
    spec: &LaunchSpec,
    cancel: &Arc<AtomicBool>,
) -> Result<Housed, Failed> {
    let task = Failed::at(LaunchStage::Task);
    let command = CommandLine::of(spec.command()).map_err(|e| task(&e))?;
    // An executor and its tasks have no limits beyond what they ask for.
    let limits = spec.task().map(|task| task.limits.clone()).unwrap_or_default();
    let demand = Demand::new(spec.resources.clone(), &limits)
        .and_then(|demand| demand.with_gpus(shared.gpus().of(&spec.container_id)))
        .map_err(|e| task(&e))?;
    let plan = shared.isolators.prepare(&demand).map_err(|e| task(&e))?;
    let (namespaces, hostname) =
        support::container(spec.container(), plan.namespaces).map_err(|e| task(&e))?;
    let user = User::find(&spec.user).map_err(|e| task(&e))?;

    let owner = Owner { uid: user.uid, gid: user.gid };
    let of = SandboxOf {
        agent: spec.agent_id.clone(),
        framework: spec.framework_id.clone(),
        executor: spec.executor_id.clone(),
        container: spec.container_id.clone(),
    };
    let sandbox = shared
        .sandboxes
        .create(&of, Some(owner))
        .map_err(|e| Failed::at(LaunchStage::Sandbox)(&e))?;
    mezzo_fault_points::hit!("agent.launch.sandboxed");
    // Before anything of the task's is there that could lead elsewhere.
    volumes::link(&shared.config.work_dir, &sandbox.directory, &spec.resources, owner)
        .map_err(|e| Failed::at(LaunchStage::Sandbox)(&e))?;
    let environment = environment(spec, &user, &sandbox.path, &shared.config, &plan.environment)
        .map_err(|e| task(&e))?;

    let uris = spec.uris();
    if !uris.is_empty() {
        shared
            .fetcher
            .fetch(uris, &sandbox.path, Some(owner), cancel)
            .map_err(|e| Failed { stage: LaunchStage::Fetch, message: e.to_string() })?;
        mezzo_fault_points::hit!("agent.launch.fetched");
    }
    let grant = plan.grant;
    Ok(Housed { sandbox, user, command, environment, demand, namespaces, grant, hostname })
}

/// Makes the control groups, with limits, and the exit file. Blocks for a moment.
pub(super) fn isolate(
    shared: &Shared,
    places: &Places,
    spec: &LaunchSpec,
    housed: Housed,
    cancel: &AtomicBool,
) -> Result<Staged, Failed> {
    if cancel.load(Ordering::Relaxed) {
        return Err(Failed::cancelled(LaunchStage::Isolate));
    }
    let isolate = Failed::at(LaunchStage::Isolate);
    // It may be in another hierarchy.
    let guard = shared.guard_of(&housed.grant.devices);
    let cgroup = shared.cgroups.create(spec.container_id.as_str()).map_err(|e| isolate(&e))?;
    mezzo_fault_points::hit!("agent.launch.grouped");
    shared.isolators.isolate(&housed.demand, &cgroup).map_err(|e| isolate(&e))?;
    if let (Devices::Only(devices), Some(DeviceGuard::Controller)) = (&housed.grant.devices, guard)
    {
        cgroup.set_devices(devices).map_err(|e| isolate(&e))?;
    }
    mezzo_fault_points::hit!("agent.launch.limited");
    let holder = Holder {
        framework: spec.framework_id.clone(),
        task: spec.executor_id.as_str().into(),
        container: spec.container_id.clone(),
    };
    shared.accounts.admit(holder, &cgroup, &housed.grant).map_err(|e| isolate(&e))?;
    mezzo_fault_points::hit!("agent.launch.admitted");
    let procs = cgroup.procs_files().map_err(|e| isolate(&e))?;
    let path = shared.exit_path(&places.exit_file);
    let exit_file = create_exit_file(&path).map_err(|e| Failed {
        stage: LaunchStage::Isolate,
        message: format!("could not create exit file {}: {e}", path.display()),
    })?;
    mezzo_fault_points::hit!("agent.launch.exit_file");
    Ok(Staged { housed, cgroup, procs, exit_file })
}

impl Staged {
    /// The request to the launcher; `null` becomes the command's standard input.
    pub(super) fn launch<'a>(&'a self, spec: &LaunchSpec, null: &'a OwnedFd) -> Launch<'a> {
        let Housed { sandbox, user, command, environment, namespaces, hostname, .. } = &self.housed;
        Launch {
            container: spec.container_id.as_str().to_owned(),
            program: command.program.clone(),
            arguments: command.arguments.clone(),
            environment: environment.clone(),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups.clone(),
            namespaces: Namespaces {
                pid: namespaces.pid,
                mount: namespaces.mount,
                ipc: namespaces.ipc,
                uts: namespaces.uts,
            },
            hostname: hostname.clone(),
            directory: sandbox.directory.as_fd(),
            stdin: null.as_fd(),
            stdout: sandbox.stdout.as_fd(),
            stderr: sandbox.stderr.as_fd(),
            exit_file: self.exit_file.as_fd(),
            cgroup_procs: self.procs.iter().map(AsFd::as_fd).collect(),
        }
    }
}
