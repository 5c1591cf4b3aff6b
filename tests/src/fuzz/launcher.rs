use std::fs::File;
use std::os::fd::OwnedFd;

/// A packet is a request that can be planned, or it is refused: nothing else comes of it.
pub(super) fn packets(data: &[u8]) {
    let Some((files, packet)) = data.split_first() else { return };
    let files = (0..usize::from(files % 8)).map(|_| null());
    let _ = mezzo_agent_launcher::inspect_packet(packet, files.collect());
}

fn null() -> OwnedFd {
    let file = File::options().read(true).write(true).open("/dev/null");
    file.expect("/dev/null can always be opened").into()
}
