//! Answers whose pieces are shared with other answers and with what they were made of. While a peer reads one, its
//! pieces stay in memory although newer ones have taken their place; a peer that reads slowly must not make that grow.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::budget::{Budget, Busy, Charge};

/// A peer that has read its answer after this time is no burden.
const FAST: Duration = Duration::from_secs(10);

/// Answers under way. Clones share them.
#[derive(Debug, Clone)]
pub struct Leases {
    alive: Arc<Mutex<Vec<Weak<Lease>>>>,
    /// What those who are slow may hold together.
    bytes: usize,
}

#[derive(Debug)]
struct Lease {
    /// Gone once it was taken back.
    parts: Mutex<Option<VecDeque<Bytes>>>,
    left: AtomicUsize,
    begun: Instant,
}

/// Why an answer breaks off in the middle.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the peer read so slowly that the memory of its answer was taken back")]
struct TakenBack;

impl Leases {
    pub fn new(bytes: usize) -> Leases {
        Leases { alive: Arc::default(), bytes }
    }

    /// An answer in pieces, with its length. If those who read slowly hold too much by now, the one that began
    /// first is broken off.
    ///
    /// # Errors
    /// There are too many answers under way.
    pub fn body(&self, parts: Vec<Bytes>, budget: &Budget) -> Result<Body, Busy> {
        let charge = budget.charge(parts.len() * size_of::<Bytes>())?;
        let bytes = parts.iter().map(Bytes::len).sum();
        let lease = Arc::new(Lease {
            parts: Mutex::new(Some(parts.into())),
            left: AtomicUsize::new(bytes),
            begun: Instant::now(),
        });
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.retain(|lease| lease.strong_count() > 0);
        take_back(&alive, self.bytes, FAST);
        alive.push(Arc::downgrade(&lease));
        drop(alive);
        Ok(Body::new(Leased { lease, _charge: charge }))
    }
}

/// `alive` is in the order in which they began.
fn take_back(alive: &[Weak<Lease>], bytes: usize, fast: Duration) {
    let slow: Vec<Arc<Lease>> = alive
        .iter()
        .filter_map(Weak::upgrade)
        .filter(|lease| lease.begun.elapsed() >= fast)
        .collect();
    let mut held: usize = slow.iter().map(|lease| lease.left.load(Ordering::Relaxed)).sum();
    for lease in slow {
        if held <= bytes {
            return;
        }
        held -= lease.left.swap(0, Ordering::Relaxed).min(held);
        *lease.parts.lock().unwrap_or_else(PoisonError::into_inner) = None;
        tracing::warn!("an answer that was read too slowly was broken off");
    }
}

struct Leased {
    lease: Arc<Lease>,
    _charge: Charge,
}

impl HttpBody for Leased {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut parts = self.lease.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(parts) = parts.as_mut() else { return Poll::Ready(Some(Err(TakenBack.into()))) };
        let next = loop {
            match parts.pop_front() {
                Some(part) if part.is_empty() => {}
                other => break other,
            }
        };
        if let Some(part) = &next {
            self.lease.left.fetch_sub(part.len(), Ordering::Relaxed);
        }
        Poll::Ready(next.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        let parts = self.lease.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.as_ref().is_some_and(VecDeque::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.lease.left.load(Ordering::Relaxed) as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn parts(count: usize) -> Vec<Bytes> {
        (0..count).map(|at| Bytes::from(vec![u8::try_from(at % 251).unwrap(); 1000])).collect()
    }

    #[tokio::test]
    async fn pieces_arrive_in_order_and_the_length_is_known() {
        let (leases, budget) = (Leases::new(0), Budget::new(1 << 20));
        let body = leases.body(parts(5), &budget).unwrap();
        assert_eq!(HttpBody::size_hint(&body).exact(), Some(5000));
        assert_eq!(body.collect().await.unwrap().to_bytes(), parts(5).concat());
        assert!(leases.body(Vec::new(), &budget).unwrap().is_end_stream());
    }

    #[tokio::test]
    async fn the_slow_one_that_began_first_is_broken_off() {
        let (leases, budget) = (Leases::new(7000), Budget::new(1 << 20));
        let mut first = leases.body(parts(5), &budget).unwrap();
        first.frame().await.unwrap().unwrap();
        let second = leases.body(parts(4), &budget).unwrap();
        {
            let alive = leases.alive.lock().unwrap();
            take_back(&alive, 7000, FAST);
            take_back(&alive, 8000, Duration::ZERO);
            assert!(alive[0].upgrade().unwrap().parts.lock().unwrap().is_some());
            take_back(&alive, 7000, Duration::ZERO);
        }
        let error = first.frame().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("taken back"), "{error}");
        assert_eq!(second.collect().await.unwrap().to_bytes().len(), 4000);
    }
}
