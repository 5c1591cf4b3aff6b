//! Lists in pages: a writer changes one page, readers hold on to all of them, and what a page looks like encoded is
//! kept until the page changes.
//!
//! A list is a tree of two levels with copies on write. Taking it as it is now copies a few hundred handles for half
//! a million entries; a change copies one page, and only while some reader still has the old one.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::scan::put_head;

/// Entries of a page: few enough that a change makes little to encode again, many enough that a page is worth a
/// write of its own.
const PAGE: usize = 64;
/// Pages of a node.
const NODE: usize = 64;

/// How an entry may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// v1, as fields of the message around them.
    Protobuf,
    /// v1, as elements of a list.
    Json,
    /// As in `/state`.
    Legacy,
    /// As in `/state-summary`.
    Summary,
    /// As in `/slaves`.
    Full,
}

pub(super) const FORMS: usize = 5;

/// What a list is made of. Cheap to clone.
pub(super) trait Entry: Clone {
    /// The encoded message, made in `scratch` (which is empty) or kept by the entry.
    fn protobuf<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8];
    /// Appends the JSON of a form. Nothing is appended for a form in which such an entry does not occur.
    fn json(&self, form: Form, out: &mut Vec<u8>);
}

#[derive(Debug)]
pub(super) struct Page<T> {
    entries: Vec<T>,
    encoded: Mutex<[Option<Bytes>; FORMS]>,
}

impl<T: Clone> Clone for Page<T> {
    /// For the writer, who is about to change it.
    fn clone(&self) -> Self {
        Page::new(self.entries.clone())
    }
}

impl<T> Page<T> {
    fn new(entries: Vec<T>) -> Self {
        Page { entries, encoded: Mutex::new([const { None }; FORMS]) }
    }

    fn change(&mut self) -> &mut Vec<T> {
        *self.encoded.get_mut().unwrap_or_else(PoisonError::into_inner) = [const { None }; FORMS];
        &mut self.entries
    }
}

impl<T: Entry> Page<T> {
    /// All entries in a form: protobuf with the key of field `number` before each, JSON with commas between.
    pub(super) fn encoded(&self, form: Form, number: u32) -> Bytes {
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut encoded[form as usize];
        place.get_or_insert_with(|| encode(&self.entries, form, number)).clone()
    }
}

fn encode<T: Entry>(entries: &[T], form: Form, number: u32) -> Bytes {
    let mut out = Vec::new();
    if form == Form::Protobuf {
        let mut scratch = Vec::new();
        for entry in entries {
            scratch.clear();
            let message = entry.protobuf(&mut scratch);
            put_head(&mut out, number, message.len());
            out.extend_from_slice(message);
        }
    } else {
        for entry in entries {
            if !out.is_empty() {
                out.push(b',');
            }
            entry.json(form, &mut out);
        }
    }
    // What is kept should not be larger than it is.
    out.shrink_to_fit();
    out.into()
}

#[derive(Debug)]
struct Node<T> {
    pages: Vec<Arc<Page<T>>>,
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        Node { pages: self.pages.clone() }
    }
}

/// A list without order: removing an entry puts the last one in its place.
#[derive(Debug)]
pub(super) struct Pages<T> {
    nodes: Vec<Arc<Node<T>>>,
    len: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Pages { nodes: Vec::new(), len: 0 }
    }
}

impl<T> Clone for Pages<T> {
    fn clone(&self) -> Self {
        Pages { nodes: self.nodes.clone(), len: self.len }
    }
}

impl<T: Clone> Pages<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        let page = self.nodes.get(at / (PAGE * NODE))?.pages.get(at / PAGE % NODE)?;
        page.entries.get(at % PAGE)
    }

    /// To change the entry: what its page looked like is forgotten.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.page_mut(at)?.get_mut(at % PAGE)
    }

    fn page_mut(&mut self, at: usize) -> Option<&mut Vec<T>> {
        let node = Arc::make_mut(self.nodes.get_mut(at / (PAGE * NODE))?);
        Some(Arc::make_mut(node.pages.get_mut(at / PAGE % NODE)?).change())
    }

    /// Adds an entry; returns where it is.
    pub(super) fn push(&mut self, entry: T) -> usize {
        let at = self.len;
        if at.is_multiple_of(PAGE * NODE) {
            self.nodes.push(Arc::new(Node { pages: Vec::new() }));
        }
        if at.is_multiple_of(PAGE)
            && let Some(node) = self.nodes.last_mut()
        {
            Arc::make_mut(node).pages.push(Arc::new(Page::new(Vec::with_capacity(PAGE))));
        }
        if let Some(page) = self.page_mut(at) {
            page.push(entry);
        }
        self.len += 1;
        at
    }

    /// Takes an entry out. Unless it was the last one, the last one is now in its place.
    pub(super) fn swap_remove(&mut self, at: usize) -> Option<T> {
        let last = self.len.checked_sub(1).filter(|last| at <= *last)?;
        let moved = self.page_mut(last)?.pop()?;
        self.len = last;
        if last.is_multiple_of(PAGE) {
            if let Some(node) = self.nodes.last_mut() {
                Arc::make_mut(node).pages.pop();
            }
            if last.is_multiple_of(PAGE * NODE) {
                self.nodes.pop();
            }
        }
        if at == last {
            return Some(moved);
        }
        Some(std::mem::replace(self.get_mut(at)?, moved))
    }

    pub(super) fn pages(&self) -> impl Iterator<Item = &Arc<Page<T>>> {
        self.nodes.iter().flat_map(|node| &node.pages)
    }

    /// What the pages look like in a form is made again when somebody asks.
    pub(super) fn forget(&self, form: Form) {
        for page in self.pages() {
            let mut encoded = page.encoded.lock().unwrap_or_else(PoisonError::into_inner);
            encoded[form as usize] = None;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages().flat_map(|page| &page.entries)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Number(u32);

    impl Entry for Number {
        fn protobuf<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
            scratch.extend_from_slice(&self.0.to_le_bytes());
            scratch
        }

        fn json(&self, _: Form, out: &mut Vec<u8>) {
            out.extend_from_slice(self.0.to_string().as_bytes());
        }
    }

    fn text(pages: &Pages<Number>) -> String {
        let parts: Vec<String> = pages
            .pages()
            .map(|page| String::from_utf8_lossy(&page.encoded(Form::Json, 0)).into_owned())
            .collect();
        parts.join(",")
    }

    #[derive(Debug, Clone)]
    enum Act {
        Push(u32),
        Set(usize, u32),
        Remove(usize),
        Read,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => any::<u32>().prop_map(Act::Push),
            2 => (any::<usize>(), any::<u32>()).prop_map(|(at, value)| Act::Set(at, value)),
            3 => any::<usize>().prop_map(Act::Remove),
            1 => Just(Act::Read),
        ]
    }

    proptest! {
        #[test]
        fn pages_are_a_plain_list(
            start in 0..(2 * PAGE * NODE + 3),
            acts in proptest::collection::vec(act(), 0..200),
        ) {
            let mut model: Vec<u32> = (0..start as u32).collect();
            let mut pages = Pages::default();
            for value in &model {
                pages.push(Number(*value));
            }
            let mut held: Vec<(Pages<Number>, Vec<u32>)> = Vec::new();
            for act in acts {
                match act {
                    Act::Push(value) => {
                        prop_assert_eq!(pages.push(Number(value)), model.len());
                        model.push(value);
                    }
                    Act::Set(at, value) if !model.is_empty() => {
                        let at = at % model.len();
                        *pages.get_mut(at).expect("there") = Number(value);
                        model[at] = value;
                    }
                    Act::Remove(at) if !model.is_empty() => {
                        let at = at % model.len();
                        let taken = pages.swap_remove(at).expect("there");
                        prop_assert_eq!(taken.0, model.swap_remove(at));
                    }
                    Act::Read => held.push((pages.clone(), model.clone())),
                    _ => prop_assert!(pages.swap_remove(0).is_none()),
                }
                prop_assert_eq!(pages.len(), model.len());
            }
            held.push((pages.clone(), model));
            // What was taken earlier did not change, and is encoded as it was.
            for (pages, model) in held {
                prop_assert_eq!(pages.iter().map(|n| n.0).collect::<Vec<_>>(), model.clone());
                let expected: Vec<String> = model.iter().map(u32::to_string).collect();
                prop_assert_eq!(text(&pages), expected.join(","));
                prop_assert!(pages.get(model.len()).is_none());
            }
        }
    }

    #[test]
    fn an_encoding_is_kept_until_its_page_changes() {
        let mut pages = Pages::default();
        for value in 0..3 * PAGE as u32 {
            pages.push(Number(value));
        }
        let encoded = |pages: &Pages<Number>| -> Vec<*const u8> {
            pages.pages().map(|page| page.encoded(Form::Json, 0).as_ptr()).collect()
        };
        let before = encoded(&pages);
        assert_eq!(encoded(&pages), before);
        let held = pages.clone();
        pages.get_mut(PAGE).expect("there").0 = 7;
        let after = encoded(&pages);
        assert_eq!((after[0], after[2]), (before[0], before[2]));
        assert_ne!(text(&pages), text(&held));
        assert_eq!(encoded(&held), before);
        pages.forget(Form::Legacy);
        assert_eq!(encoded(&pages), after);
        pages.forget(Form::Json);
        assert_eq!(text(&pages).len(), text(&held).len() - 1);
    }
}
