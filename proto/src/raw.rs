//! Parts of a received message, byte for byte.
//!
//! prost drops the fields it does not know. What a framework says about a task must reach the
//! executor whole, also where it is newer than this release; so a TaskInfo travels as the bytes that
//! came in, and only those who decide something decode it.

use bytes::Bytes;

use crate::required::DecodeError;
use crate::wire::{Fields, Wire};

#[cfg(test)]
mod tests;

// Field numbers on the way from `scheduler::Call` to the TaskInfos in it.
const CALL_ACCEPT: u32 = 4;
const ACCEPT_OPERATIONS: u32 = 2;
const OPERATION_LAUNCH: u32 = 2;
const LAUNCH_TASK_INFOS: u32 = 1;
const OPERATION_LAUNCH_GROUP: u32 = 7;
const LAUNCH_GROUP_TASK_GROUP: u32 = 2;
const TASK_GROUP_TASKS: u32 = 1;
// Those of `scheduler::ConnectRequest`.
const CONNECT_REQUEST_SEQ: u32 = 1;
const CONNECT_REQUEST_CALL: u32 = 2;

/// The encoded TaskInfos of an encoded `scheduler::Call`, without copying: in the order of the
/// operations, and within one operation first those of `launch`, then those of `launch_group`. That
/// is the order in which a walk over the decoded call finds them. A call that launches nothing has none.
///
/// # Errors
/// Bytes that are no protobuf message.
pub fn task_infos(call: &Bytes) -> Result<Vec<Bytes>, DecodeError> {
    let mut found = Vec::new();
    for accept in each(call, CALL_ACCEPT)? {
        for operation in each(accept, ACCEPT_OPERATIONS)? {
            for launch in each(operation, OPERATION_LAUNCH)? {
                found.extend(each(launch, LAUNCH_TASK_INFOS)?);
            }
            for launch_group in each(operation, OPERATION_LAUNCH_GROUP)? {
                for group in each(launch_group, LAUNCH_GROUP_TASK_GROUP)? {
                    found.extend(each(group, TASK_GROUP_TASKS)?);
                }
            }
        }
    }
    Ok(found.into_iter().map(|part| call.slice_ref(part)).collect())
}

/// The encoded `scheduler::Call` in an encoded `scheduler::ConnectRequest`, and the request's `seq`.
/// A call in parts is put together; without one it is empty.
///
/// # Errors
/// Bytes that are no protobuf message.
pub fn connect_request(request: &Bytes) -> Result<(u64, Bytes), DecodeError> {
    let mut seq = 0;
    let mut call: Option<Bytes> = None;
    for field in Fields(request) {
        match field? {
            (CONNECT_REQUEST_SEQ, Wire::Varint(value)) => seq = value,
            (CONNECT_REQUEST_CALL, Wire::Bytes(part)) => {
                call = Some(match call {
                    None => request.slice_ref(part),
                    Some(before) => [&before, part].concat().into(),
                });
            }
            _ => {}
        }
    }
    Ok((seq, call.unwrap_or_default()))
}

/// Every occurrence of a field that holds a message.
fn each(bytes: &[u8], number: u32) -> Result<Vec<&[u8]>, DecodeError> {
    let mut found = Vec::new();
    for field in Fields(bytes) {
        if let (n, Wire::Bytes(part)) = field?
            && n == number
        {
            found.push(part);
        }
    }
    Ok(found)
}
