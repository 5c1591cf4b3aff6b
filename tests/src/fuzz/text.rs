use mezzo_types::{Attributes, Resources};

/// Resources that are read are those that they print and send.
pub(super) fn resources(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(read) = Resources::parse(&text, "*") else { return };
    let sent = Resources::from_proto(&read.to_proto()).expect("its own messages");
    assert_eq!(sent, read, "the messages of {text:?}");
    // Disks and volumes, which JSON can say, have no text.
    let is_text = !text.trim_start().starts_with(['[', '{']);
    if is_text && !read.is_empty() {
        let printed = read.to_string();
        match Resources::parse(&printed, "*") {
            Ok(again) => assert_eq!(again, read, "{text:?} was printed as {printed:?}"),
            Err(error) => panic!("{text:?} was printed as {printed:?}: {error}"),
        }
    }
    assert!(read.contains(&read) && (&read + &read).contains(&read));
    let nothing = read.checked_sub(&read);
    assert!(nothing.is_some_and(|rest| rest.is_empty()), "{text:?} less itself leaves something");
}

/// The same of attributes.
pub(super) fn attributes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(read) = Attributes::parse(&text) else { return };
    let sent = Attributes::from_proto(&read.to_proto()).expect("its own messages");
    assert_eq!(sent, read, "the messages of {text:?}");
    if !text.trim_start().starts_with('[') && !read.is_empty() {
        let printed = read.to_string();
        match Attributes::parse(&printed) {
            Ok(again) => assert_eq!(again, read, "{text:?} was printed as {printed:?}"),
            Err(error) => panic!("{text:?} was printed as {printed:?}: {error}"),
        }
    }
}
