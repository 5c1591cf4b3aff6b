//! The body of a gRPC request: messages, each with five bytes before it that announce its length.
//! tonic bounds their size; what it leaves out is time, and the memory of all of them together.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use crate::budget::{Budget, Charge};
use crate::limits::Limits;

/// Bytes before a message: whether it is compressed, and its length.
const HEADER: usize = 5;

/// Passes a body on while its messages come in time, the first one above all, and while there is memory
/// for the large ones.
#[derive(Debug)]
pub(crate) struct Frames<B = Incoming> {
    body: B,
    limits: Limits,
    budget: Budget,
    progress: Progress,
    /// Runs while a message is awaited in full.
    deadline: Option<Pin<Box<Sleep>>>,
    charge: Charge,
}

/// Where in the messages the body stands.
#[derive(Debug, Default)]
struct Progress {
    header: [u8; HEADER],
    /// Bytes of the header that are there.
    filled: usize,
    /// Bytes that are missing of the message whose header is complete.
    missing: u64,
}

impl<B> Frames<B> {
    pub(crate) fn new(body: B, limits: Limits, budget: Budget) -> Frames<B> {
        let deadline = Some(Box::pin(sleep_until(Instant::now() + limits.body)));
        let (progress, charge) = (Progress::default(), Charge::default());
        Frames { body, limits, budget, progress, deadline, charge }
    }

    /// Follows the messages in what has come.
    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while !bytes.is_empty() {
            let progress = &mut self.progress;
            if progress.filled < HEADER {
                let part = bytes.len().min(HEADER - progress.filled);
                let (header, rest) = bytes.split_at(part);
                progress.header[progress.filled..][..part].copy_from_slice(header);
                progress.filled += part;
                bytes = rest;
                if progress.filled < HEADER {
                    break;
                }
                let [_, length @ ..] = progress.header;
                let length = u32::from_be_bytes(length);
                progress.missing = u64::from(length);
                // The one before has been taken over by whoever reads this.
                self.charge = Charge::default();
                let size = usize::try_from(length).unwrap_or(usize::MAX);
                self.charge = self
                    .budget
                    .charge(size)
                    .map_err(|busy| Status::resource_exhausted(busy.to_string()))?;
            }
            let progress = &mut self.progress;
            let part = bytes.len().min(usize::try_from(progress.missing).unwrap_or(usize::MAX));
            bytes = &bytes[part..];
            progress.missing -= part as u64;
            if progress.missing == 0 {
                progress.filled = 0;
                self.deadline = None;
            }
        }
        let progress = &self.progress;
        if progress.filled > 0 && self.deadline.is_none() {
            let time = self.limits.body_time(progress.missing);
            self.deadline = Some(Box::pin(sleep_until(Instant::now() + time)));
        }
        Ok(())
    }
}

impl<B> Body for Frames<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let deadline = this.deadline.as_mut();
                if deadline.is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) {
                    this.deadline = None;
                    let status = Status::deadline_exceeded("the message took too long to arrive");
                    return Poll::Ready(Some(Err(status.into())));
                }
                return Poll::Pending;
            }
        };
        Poll::Ready(match frame {
            None => None,
            Some(Err(error)) => Some(Err(error.into())),
            Some(Ok(frame)) => match frame.data_ref().cloned() {
                Some(data) => Some(this.follow(&data).map(|()| frame).map_err(Into::into)),
                None => Some(Ok(frame)),
            },
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn frames(
        parts: Vec<Vec<u8>>,
        then_wait: bool,
    ) -> Frames<impl Body<Data = Bytes, Error = axum::BoxError> + Unpin> {
        use futures::StreamExt;
        let parts = parts.into_iter().map(|part| Ok(Frame::data(Bytes::from(part))));
        let parts = futures::stream::iter(parts);
        let stream = match then_wait {
            true => parts.chain(futures::stream::pending()).boxed(),
            false => parts.boxed(),
        };
        let limits = Limits { body: Duration::from_millis(30), ..Limits::new(8) };
        Frames::new(StreamBody::new(stream), limits, Budget::new(1024 * 1024))
    }

    fn message(length: usize) -> Vec<u8> {
        let header = u32::try_from(length).expect("short").to_be_bytes();
        [&[0], &header[..], &vec![7; length]].concat()
    }

    async fn code<B: Body<Error = axum::BoxError> + Unpin>(mut frames: B) -> Option<tonic::Code> {
        loop {
            match frames.frame().await? {
                Ok(_) => {}
                Err(error) => return error.downcast_ref::<Status>().map(Status::code),
            }
        }
    }

    #[tokio::test]
    async fn messages_pass_in_whatever_pieces_they_come() {
        let all = [message(0), message(3), message(700_000), message(1), message(800_000)].concat();
        for size in [1, 5, 1000, all.len()] {
            let pieces = all.chunks(size).map(<[u8]>::to_vec).collect();
            let mut frames = frames(pieces, false);
            let passed = (&mut frames).collect().await.expect("passes").to_bytes();
            assert_eq!(passed, all);
            assert_eq!((frames.progress.filled, frames.progress.missing), (0, 0));
        }
    }

    #[tokio::test]
    async fn the_first_message_and_every_begun_one_must_come() {
        let late = Some(tonic::Code::DeadlineExceeded);
        assert_eq!(code(frames(vec![], true)).await, late);
        assert_eq!(code(frames(vec![message(3), vec![0, 0]], true)).await, late);
        assert_eq!(code(frames(vec![message(3), message(3)[..6].to_vec()], true)).await, late);
        // Between messages there is all the time in the world.
        let waiting = code(frames(vec![message(3)], true));
        tokio::time::timeout(Duration::from_millis(200), waiting).await.expect_err("waits");
    }

    #[tokio::test]
    async fn memory_is_charged_when_it_is_announced() {
        let announced = vec![[&[0][..], &2_000_000_u32.to_be_bytes()].concat()];
        assert_eq!(code(frames(announced, true)).await, Some(tonic::Code::ResourceExhausted));
    }
}
