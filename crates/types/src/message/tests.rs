use super::*;

fn message(text: &str) -> v1::Resource {
    mezzo_proto::json::from_slice(text.as_bytes()).unwrap()
}

fn read(text: &str) -> Result<String, String> {
    Resource::from_proto(&message(text))
        .map(|resource| resource.to_string())
        .map_err(|fault| fault.to_string())
}

fn refuse(text: &str) -> String {
    read(text).unwrap_err()
}

/// A scalar named `name` with the given amount and further fields.
fn scalar(name: &str, amount: &str, more: &str) -> String {
    format!(r#"{{"name":"{name}","type":"SCALAR","scalar":{{"value":{amount}}}{more}}}"#)
}

#[test]
fn both_reservation_formats_mean_the_same() {
    let old = [
        (r#","role":"*""#, "cpus:1"),
        ("", "cpus:1"),
        (r#","role":"web""#, "cpus(web):1"),
        (r#","role":"web","reservation":{"principal":"alice"}"#, "cpus(dynamic web by alice):1"),
        (
            r#","role":"web","reservation":{"labels":{"labels":[{"key":"k","value":"v"}]}}"#,
            "cpus(dynamic web k=v):1",
        ),
    ];
    for (fields, printed) in old {
        assert_eq!(read(&scalar("cpus", "1", fields)).as_deref(), Ok(printed));
    }
    let new = [
        (r#","reservations":[{"type":"STATIC","role":"web"}]"#, "cpus(web):1"),
        (
            r#","reservations":[{"type":"DYNAMIC","role":"web","principal":"alice"}]"#,
            "cpus(dynamic web by alice):1",
        ),
        (
            r#","reservations":[{"type":"STATIC","role":"a"},{"type":"DYNAMIC","role":"a/b"}]"#,
            "cpus(a)(dynamic a/b):1",
        ),
        // Both at once, in agreement.
        (r#","role":"web","reservations":[{"type":"STATIC","role":"web"}]"#, "cpus(web):1"),
        (r#","role":"*","reservations":[{"type":"STATIC","role":"web"}]"#, "cpus(web):1"),
    ];
    for (fields, printed) in new {
        assert_eq!(read(&scalar("cpus", "1", fields)).as_deref(), Ok(printed));
    }
}

#[test]
#[expect(deprecated, reason = "the older format is what is tested")]
fn the_older_format_cannot_say_a_refined_reservation() {
    let web = Resource::from_proto(&message(&scalar(
        "cpus",
        "1",
        r#","reservations":[{"type":"DYNAMIC","role":"web","principal":"alice"}]"#,
    )))
    .unwrap();
    let old = web.to_proto_unrefined().unwrap();
    assert_eq!(old.role.as_deref(), Some("web"));
    assert_eq!(old.reservation.unwrap().principal.as_deref(), Some("alice"));
    assert!(old.reservations.is_empty());
    let refined = Resource::from_proto(&message(&scalar(
        "cpus",
        "1",
        r#","reservations":[{"type":"STATIC","role":"a"},{"type":"DYNAMIC","role":"a/b"}]"#,
    )))
    .unwrap();
    assert_eq!(refined.to_proto_unrefined(), None);
    assert_eq!(Resources::from(refined).to_proto_unrefined(), None);
}

#[test]
fn everything_a_disk_can_be_comes_back_from_its_message() {
    let fields = r#","reservations":[{"type":"STATIC","role":"db"}],
        "allocation_info":{"role":"db"}, "provider_id":{"value":"p1"}, "shared":{},
        "disk":{"persistence":{"id":"v1","principal":"alice"},
                "volume":{"mode":"RW","container_path":"data"},
                "source":{"type":"PATH","path":{"root":"/mnt"},"vendor":"v","id":"i","profile":"fast",
                          "metadata":{"labels":[{"key":"k"}]}}}"#;
    let wire = message(&scalar("disk", "64", fields));
    let resource = Resource::from_proto(&wire).unwrap();
    assert_eq!(
        resource.to_string(),
        "disk(db)(allocated to db)[path:v:i:fast:/mnt][volume v1][provider p1]<shared>:64"
    );
    assert_eq!(resource.to_proto(), wire);
}

#[test]
fn each_rule_has_its_sentence() {
    let dynamic = r#""reservations":[{"type":"DYNAMIC","role":"web"}]"#;
    let cases = [
        (scalar("", "1", ""), "it has no name"),
        (r#"{"name":"x","type":"TEXT"}"#.into(), "its type is TEXT; resources are SCALAR, RANGES or SET"),
        (r#"{"name":"x","type":"SCALAR"}"#.into(), "its type is SCALAR but it has no `scalar`"),
        (
            r#"{"name":"x","type":"SET","scalar":{"value":1},"set":{"item":["a"]}}"#.into(),
            "its type is SET but it also has `scalar`; a resource has one value",
        ),
        (scalar("cpus", "-0.5", ""), "its amount is -0.5; amounts must not be negative"),
        (scalar("cpus", "-0.0001", ""), "its amount is -0.0001; amounts must not be negative"),
        (scalar("cpus", "0.0004", ""), "its amount 0.0004 rounds to 0; the smallest amount is 0.001"),
        (scalar("cpus", "\"Infinity\"", ""), "its amount inf is not a finite number"),
        (scalar("mem", "1e13", ""), "its amount 10000000000000 is beyond 10^12, the largest amount"),
        (scalar("gpus", "1.5", ""), "its amount is 1.5; GPUs are given out whole"),
        (
            r#"{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":2,"end":1}]}}"#.into(),
            "the range 2-1 ends before it begins",
        ),
        (
            r#"{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":4,"end":9},{"begin":1,"end":4}]}}"#.into(),
            "the ranges 1-4 and 4-9 overlap",
        ),
        (r#"{"name":"s","type":"SET","set":{"item":["a","a"]}}"#.into(), "the item `a` appears twice"),
        (scalar("cpus", "1", r#","role":"/a""#), "role `/a` begins with a slash"),
        (
            scalar("cpus", "1", r#","role":"*","reservation":{}"#),
            "role `*` cannot be reserved; set `role` to the role the reservation is for",
        ),
        (
            scalar("cpus", "1", r#","role":"a","reservation":{"role":"a"}"#),
            "`reservation.role` belongs to the newer format; use `reservations`",
        ),
        (
            scalar("cpus", "1", r#","role":"a","reservations":[{"type":"STATIC","role":"b"}]"#),
            "it has `role` or `reservation` beside `reservations`, and they disagree; use `reservations` alone",
        ),
        (
            scalar("cpus", "1", r#","reservations":[{"role":"b"}]"#),
            "level 1 of `reservations` has no `type`",
        ),
        (
            scalar("cpus", "1", r#","reservations":[{"type":"STATIC","role":"a"},{"type":"STATIC","role":"a/b"}]"#),
            "level 2 of `reservations` is STATIC; only the first can be",
        ),
        (
            scalar("cpus", "1", r#","reservations":[{"type":"STATIC","role":"a"},{"type":"DYNAMIC","role":"ab"}]"#),
            "role `ab` of level 2 of `reservations` is not below role `a` of the level before",
        ),
        (
            scalar("mem", "1", r#","disk":{}"#),
            "it has `disk`, which only resources named `disk` can have",
        ),
        (
            scalar("disk", "1", r#","disk":{"source":{"type":"UNKNOWN"}}"#),
            "its `disk.source` has no type; use PATH, MOUNT, BLOCK or RAW",
        ),
        (
            scalar("disk", "1", r#","disk":{"source":{"type":"RAW","mount":{"root":"/x"}}}"#),
            "its `disk.source.mount` does not go with the type of the source",
        ),
        (
            scalar("disk", "1", r#","disk":{"persistence":{"id":"v"}}"#),
            "a persistent volume must be reserved; reserve the disk first",
        ),
        (
            scalar("disk", "1", r#","role":"a","disk":{"persistence":{"id":"../v"}}"#),
            "its `disk.persistence.id` `../v` has the character '/' at position 3; slashes, backslashes and control characters are not allowed",
        ),
        (
            scalar("cpus", "1", &format!(r#","revocable":{{}},{dynamic}"#)),
            "it is revocable and dynamically reserved; revocable resources cannot be",
        ),
        (
            scalar("disk", "1", r#","role":"a","revocable":{},"disk":{"persistence":{"id":"v"}}"#),
            "it is revocable and a persistent volume; revocable resources cannot be",
        ),
        (scalar("disk", "1", r#","shared":{}"#), "it is shared; only persistent volumes can be"),
    ];
    for (text, sentence) in cases {
        assert_eq!(refuse(&text), sentence, "for {text}");
    }
}

#[test]
fn an_error_names_the_resource() {
    let good = message(&scalar("cpus", "1", ""));
    let bad = message(&scalar("mem", "-1", ""));
    assert_eq!(
        Resources::from_proto(&[good, bad]).unwrap_err().to_string(),
        "resource 2 (`mem`): its amount is -1; amounts must not be negative"
    );
}
