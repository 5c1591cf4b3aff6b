//! Steps at which tests look at what a death of the process would leave.

/// Marks a step. Nothing at all in products.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn step(_name: &'static str) {}

#[cfg(test)]
pub(crate) use armed::{on_step, step};

#[cfg(test)]
mod armed {
    use std::cell::RefCell;

    type Observer = Box<dyn FnMut(&'static str)>;

    thread_local! {
        static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
    }

    pub(crate) fn step(name: &'static str) {
        OBSERVER.with_borrow_mut(|observer| {
            if let Some(observer) = observer {
                observer(name);
            }
        });
    }

    /// Has every step of this thread told to `observer`, until it is replaced.
    pub(crate) fn on_step(observer: Option<Observer>) {
        OBSERVER.set(observer);
    }
}
