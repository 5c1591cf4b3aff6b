use super::{JsonError, JsonMessage, from_slice, to_string};
use crate::v1::scheduler::{Call, Event, call};
use crate::v1::{self, FrameworkInfo, TaskState, TaskStatus, environment, master};

#[track_caller]
fn read<M: JsonMessage>(text: &str) -> M {
    match from_slice(text.as_bytes()) {
        Ok(message) => message,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn refused<M: JsonMessage>(text: &str, message: &str) {
    match from_slice::<M>(text.as_bytes()) {
        Ok(_) => panic!("accepted {text}"),
        Err(error) => assert_eq!(error.to_string(), message),
    }
}

/// A FrameworkInfo with `field` besides what is required.
#[track_caller]
fn framework(field: &str) -> FrameworkInfo {
    read(&format!(r#"{{"user":"u","name":"n",{field}}}"#))
}

#[track_caller]
fn framework_refused(field: &str, message: &str) {
    refused::<FrameworkInfo>(&format!(r#"{{"user":"u","name":"n",{field}}}"#), message);
}

/// Whole messages as clients send them and as Mesos sends them.
mod vectors {
    use super::*;

    #[test]
    fn subscribe_as_pymesos_sends_it() {
        let call: Call = read(
            r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"demo",
                "capabilities":[{"type":"GPU_RESOURCES"}],"failover_timeout":100,
                "id":null,"roles":null,"extra":{"a":[1,{}]}}},"framework_id":null}"#,
        );
        assert_eq!(call.r#type(), call::Type::Subscribe);
        assert_eq!(call.framework_id, None);
        let info = &call.subscribe.as_ref().unwrap().framework_info;
        assert_eq!(info.failover_timeout, Some(100.0));
        assert_eq!(
            info.capabilities[0].r#type(),
            v1::framework_info::capability::Type::GpuResources
        );
        assert_eq!(info.roles, [""; 0]);
        assert_eq!(
            to_string(&call),
            concat!(
                r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"demo","#,
                r#""failover_timeout":100.0,"checkpoint":false,"#,
                r#""capabilities":[{"type":"GPU_RESOURCES"}]}}}"#
            )
        );
    }

    #[test]
    fn offers() {
        let text = concat!(
            r#"{"type":"OFFERS","offers":{"offers":[{"id":{"value":"O1"},"#,
            r#""framework_id":{"value":"F"},"agent_id":{"value":"A"},"hostname":"h","#,
            r#""url":{"scheme":"http","address":{"hostname":"h","ip":"10.0.0.1","port":5051},"#,
            r#""path":"/slave(1)"},"#,
            r#""resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5},"#,
            r#""allocation_info":{"role":"*"}},"#,
            r#"{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":31000,"end":32000}]}}],"#,
            r#""allocation_info":{"role":"*"}}]}}"#
        );
        let event: Event = read(text);
        assert_eq!(event.offers.as_ref().unwrap().offers[0].hostname, "h");
        assert_eq!(to_string(&event), text);
    }

    #[test]
    fn accept() {
        let text = concat!(
            r#"{"framework_id":{"value":"F"},"type":"ACCEPT","accept":{"#,
            r#""offer_ids":[{"value":"O1"}],"operations":[{"type":"LAUNCH","launch":{"task_infos":["#,
            r#"{"name":"t","task_id":{"value":"T1"},"agent_id":{"value":"A"},"#,
            r#""resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1}}],"#,
            r#""command":{"environment":{"variables":[{"name":"A","type":"VALUE","value":"é\n"}]},"#,
            r#""shell":true,"value":"echo $A"},"limits":{"cpus":{"value":"Infinity"},"#,
            r#""mem":{"value":64.0}}}]}}],"filters":{"refuse_seconds":5.0}}}"#
        );
        let call: Call = read(text);
        let accept = call.accept.as_ref().unwrap();
        let task = &accept.operations[0].launch.as_ref().unwrap().task_infos[0];
        assert_eq!(task.limits["cpus"].value, f64::INFINITY);
        let variable = &task.command.as_ref().unwrap().environment.as_ref().unwrap().variables[0];
        assert_eq!(variable.r#type(), environment::variable::Type::Value);
        assert_eq!(variable.value(), "é\n");
        assert_eq!(to_string(&call), text);
    }

    #[test]
    fn update_with_its_uuid() {
        let text = concat!(
            r#"{"type":"UPDATE","update":{"status":{"task_id":{"value":"T1"},"#,
            r#""state":"TASK_FAILED","message":"m","source":"SOURCE_EXECUTOR","#,
            r#""reason":"REASON_CONTAINER_LIMITATION_MEMORY","agent_id":{"value":"A"},"#,
            r#""timestamp":1.5,"uuid":"AAECAwQFBgcICQoLDA0O/w==","#,
            r#""termination":{"signal":9,"oom":true}}}}"#
        );
        let event: Event = read(text);
        let status = &event.update.as_ref().unwrap().status;
        assert_eq!(status.state(), TaskState::TaskFailed);
        assert_eq!(status.uuid()[14..], [14, 255]);
        assert_eq!(to_string(&event), text);
    }

    #[test]
    fn a_duration_is_the_plain_message() {
        let text = concat!(
            r#"{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":"A"},"#,
            r#""max_grace_period":{"seconds":600,"nanos":0},"mark_gone":false}}"#
        );
        let call: master::Call = read(text);
        let drain = call.drain_agent.as_ref().unwrap();
        assert_eq!(drain.max_grace_period.map(|d| d.seconds), Some(600));
        assert_eq!(to_string(&call), text);
        refused::<master::Call>(
            r#"{"drain_agent":{"agent_id":{"value":"A"},"max_grace_period":"10mins"}}"#,
            r#"field 'drain_agent.max_grace_period': expected an object, got the string "10mins""#,
        );
    }

    #[test]
    fn a_oneof_stands_beside_the_other_fields() {
        let text = concat!(
            r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n","#,
            r#""failover_timeout":0.0,"checkpoint":false},"offer_constraints":{"role_constraints":{"#,
            r#""r":{"groups":[{"attribute_constraints":[{"selector":{"pseudoattribute_type":"ZONE"},"#,
            r#""predicate":{"text_equals":{"value":"z"}}},"#,
            r#"{"selector":{"attribute_name":"rack"},"predicate":{"exists":{}}}]}]}}}}}"#
        );
        assert_eq!(to_string(&read::<Call>(text)), text);
    }
}

/// What is read, rule by rule.
mod reading {
    use super::*;

    #[test]
    fn names_are_those_of_the_proto_only() {
        assert_eq!(framework(r#""failoverTimeout":1"#).failover_timeout, None);
        assert_eq!(framework(r#""failover_timeout":1"#).failover_timeout, Some(1.0));
        assert_eq!(framework(r#""no_such":{"user":3}"#).user, "u");
        // Escapes in a name mean what they stand for.
        assert_eq!(framework(r#""host\u006eame":"h""#).hostname(), "h");
    }

    #[test]
    fn null_is_unset_everywhere() {
        let info = framework(r#""id":null,"roles":null,"capabilities":null,"offer_filters":null"#);
        assert_eq!((info.id, info.roles.len(), info.capabilities.len()), (None, 0, 0));
        assert_eq!(framework(r#""roles":["a",null,"b"]"#).roles, ["a", "b"]);
        refused::<FrameworkInfo>(r#"{"user":null,"name":"n"}"#, "Missing required fields: user");
    }

    #[test]
    fn numbers_may_be_strings() {
        assert_eq!(framework(r#""failover_timeout":"2.5""#).failover_timeout, Some(2.5));
        assert_eq!(framework(r#""failover_timeout":604800"#).failover_timeout, Some(604_800.0));
        let seconds =
            |text: &str| framework(&format!(r#""failover_timeout":{text}"#)).failover_timeout();
        assert_eq!(seconds(r#""Infinity""#), f64::INFINITY);
        assert_eq!(seconds(r#""-Infinity""#), f64::NEG_INFINITY);
        assert_eq!(seconds("1e-7"), 1e-7);
        let time: v1::TimeInfo = read(r#"{"nanoseconds":"-9223372036854775808"}"#);
        assert_eq!(time.nanoseconds, i64::MIN);
        let range: v1::value::Range = read(r#"{"begin":18446744073709551615,"end":"7"}"#);
        assert_eq!((range.begin, range.end), (u64::MAX, 7));
        let range: v1::value::Range = read(r#"{"begin":3.0,"end":1e3}"#);
        assert_eq!((range.begin, range.end), (3, 1000));
    }

    #[test]
    fn a_number_is_told_what_it_lacks() {
        framework_refused(
            r#""failover_timeout":"NaN""#,
            r#"field 'failover_timeout': expected a number, got the string "NaN""#,
        );
        framework_refused(
            r#""failover_timeout":true"#,
            "field 'failover_timeout': expected a number, got the bool true",
        );
        let address = |port: &str, got: &str| {
            refused::<v1::Address>(
                &format!(r#"{{"port":{port}}}"#),
                &format!("field 'port': expected a whole number of 32 bits, got {got}"),
            );
        };
        address("2147483648", "the number 2147483648");
        address("1.5", "the number 1.5");
        address(r#""x""#, r#"the string "x""#);
        address("{}", "an object");
        refused::<v1::value::Range>(
            r#"{"begin":-1,"end":0}"#,
            "field 'begin': expected a whole number from 0 to 18446744073709551615, got the number -1",
        );
    }

    #[test]
    fn bools_may_be_strings() {
        assert_eq!(framework(r#""checkpoint":"true""#).checkpoint, Some(true));
        assert_eq!(framework(r#""checkpoint":"false""#).checkpoint, Some(false));
        assert_eq!(framework(r#""checkpoint":true"#).checkpoint, Some(true));
        framework_refused(
            r#""checkpoint":1"#,
            "field 'checkpoint': expected true or false, got the number 1",
        );
        framework_refused(
            r#""checkpoint":"yes""#,
            r#"field 'checkpoint': expected true or false, got the string "yes""#,
        );
    }

    #[test]
    fn one_value_may_stand_for_a_list() {
        assert_eq!(framework(r#""roles":"a""#).roles, ["a"]);
        assert_eq!(framework(r#""capabilities":{"type":"MULTI_ROLE"}"#).capabilities.len(), 1);
        framework_refused(
            r#""roles":["a",["b"]]"#,
            "field 'roles[1]': expected a string, got a list",
        );
        framework_refused(r#""hostname":["h"]"#, "field 'hostname': expected a string, got a list");
    }

    #[test]
    fn an_unknown_enum_name_is_dropped_unless_required() {
        let info = framework(r#""capabilities":[{"type":"TELEPATHY"}]"#);
        assert_eq!(info.capabilities[0].r#type, None);
        let call: Call = read(r#"{"type":"TELEPATHY"}"#);
        assert_eq!(call.r#type(), call::Type::Unknown);
        let linux: v1::CapabilityInfo = read(r#"{"capabilities":["CHOWN","FLY","BPF"]}"#);
        assert_eq!(linux.capabilities, [1000, 1039]);
        refused::<v1::Volume>(
            r#"{"container_path":"p","mode":"RX"}"#,
            r#"field 'mode': expected one of RW, RO, got the string "RX""#,
        );
        refused::<Call>(
            r#"{"type":1}"#,
            "field 'type': expected the name of an enum value, got the number 1",
        );
    }

    #[test]
    fn bytes_are_padded_base64() {
        let update = |uuid: &str| {
            let text =
                format!(r#"{{"task_id":{{"value":"t"}},"state":"TASK_LOST","uuid":{uuid}}}"#);
            from_slice::<TaskStatus>(text.as_bytes())
        };
        assert_eq!(update(r#""AP8=""#).unwrap().uuid(), [0, 255]);
        let error = update(r#""AP8""#).unwrap_err();
        assert!(matches!(&error, JsonError::Base64 { path, .. } if path == "uuid"), "{error}");
        assert!(matches!(update("[0,255]"), Err(JsonError::Mismatch { .. })));
    }

    #[test]
    fn maps_are_objects() {
        let info = framework(
            r#""offer_filters":{"r":{"min_allocatable_resources":{"quantities":[{"quantities":
                {"cpus":{"value":1},"mem":null}}]}},"s":{}}"#,
        );
        let filters = &info.offer_filters["r"];
        let quantities =
            &filters.min_allocatable_resources.as_ref().unwrap().quantities[0].quantities;
        assert_eq!(quantities["cpus"].value, 1.0);
        assert_eq!((quantities.len(), info.offer_filters.len()), (1, 2));
        framework_refused(
            r#""offer_filters":[]"#,
            "field 'offer_filters': expected an object, got a list",
        );
        framework_refused(
            r#""offer_filters":{"a b":3}"#,
            r#"field 'offer_filters["a b"]': expected an object, got the number 3"#,
        );
    }

    #[test]
    fn missing_required_fields_are_all_listed_with_their_paths() {
        refused::<Call>(
            r#"{"subscribe":{"framework_info":{"capabilities":[{}]}},
                "accept":{"offer_ids":[{"value":"O"},{}],"operations":[{"launch":{"task_infos":
                [{"name":"t","task_id":{},"limits":{"mem":{}},"agent_id":{"value":"A"}}]}}]},
                "kill":{}}"#,
            concat!(
                "Missing required fields: subscribe.framework_info.user, ",
                "subscribe.framework_info.name, accept.offer_ids[1].value, ",
                "accept.operations[0].launch.task_infos[0].task_id.value, ",
                "accept.operations[0].launch.task_infos[0].limits[\"mem\"].value, kill.task_id"
            ),
        );
    }

    #[test]
    fn the_last_one_of_a_name_counts() {
        assert_eq!(framework(r#""hostname":1,"hostname":"h""#).hostname(), "h");
        assert_eq!(framework(r#""roles":["a"],"roles":["b"]"#).roles, ["b"]);
        assert_eq!(framework(r#""id":{},"id":{"value":"F"}"#).id.unwrap().value, "F");
        assert_eq!(framework(r#""hostname":"h","hostname":null"#).hostname, None);
    }

    #[test]
    fn paths_lead_to_the_fault() {
        refused::<Call>(
            r#"{"accept":{"operations":[{},{"launch":{"task_infos":[{"task_id":{"value":7}}]}}]}}"#,
            concat!(
                "field 'accept.operations[1].launch.task_infos[0].task_id.value': ",
                "expected a string, got the number 7"
            ),
        );
    }

    #[test]
    fn text_that_is_no_message_is_refused() {
        refused::<Call>("[]", "expecting a JSON object, got a list");
        refused::<Call>("", "invalid JSON: EOF while parsing a value at line 1 column 0");
        refused::<Call>("{} x", "invalid JSON: trailing characters at line 1 column 4");
        let error = from_slice::<Call>(b"{\"type\":\"\xff\"}").unwrap_err();
        assert!(matches!(error, JsonError::Syntax { .. }), "{error}");
        let long = format!(r#"{{"user":"u","name":"n","checkpoint":"{}"}}"#, "é".repeat(1000));
        let error = from_slice::<FrameworkInfo>(long.as_bytes()).unwrap_err();
        assert!(error.to_string().chars().count() < 150, "{error}");
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| {
            (1..levels).fold(r#"{"value":"c"}"#.to_owned(), |parent, _| {
                format!(r#"{{"value":"c","parent":{parent}}}"#)
            })
        };
        read::<v1::ContainerId>(&nested(crate::MAX_DEPTH));
        let error = from_slice::<v1::ContainerId>(nested(crate::MAX_DEPTH + 1).as_bytes());
        assert!(matches!(error, Err(JsonError::TooDeep { .. })), "{error:?}");
        let error = from_slice::<Call>("[".repeat(1_000_000).as_bytes());
        assert!(matches!(error, Err(JsonError::Syntax { .. })), "{error:?}");
    }

    #[test]
    fn the_list_of_missing_fields_is_bounded() {
        let ids = vec!["{}"; 10_000].join(",");
        let error =
            from_slice::<Call>(format!(r#"{{"decline":{{"offer_ids":[{ids}]}}}}"#).as_bytes());
        assert!(matches!(error, Err(JsonError::Missing { fields }) if fields.len() == 32));
    }
}

/// What is written, rule by rule.
mod writing {
    use super::*;

    #[test]
    fn unset_fields_with_a_default_are_written_unless_deprecated() {
        let info = FrameworkInfo { user: "u".into(), name: "n".into(), ..Default::default() };
        assert_eq!(
            to_string(&info),
            r#"{"user":"u","name":"n","failover_timeout":0.0,"checkpoint":false}"#
        );
        // `type` is required and stands for its first value.
        assert_eq!(to_string(&v1::Image::default()), r#"{"type":"APPC","cached":true}"#);
        assert_eq!(to_string(&environment::Variable::default()), r#"{"name":"","type":"VALUE"}"#);
    }

    #[test]
    fn a_deprecated_field_is_written_when_set() {
        #[expect(deprecated, reason = "it is what is tested")]
        let info = FrameworkInfo { role: Some("r".to_owned()), ..Default::default() };
        assert!(to_string(&info).contains(r#""role":"r""#));
    }

    #[test]
    fn numbers_are_numbers() {
        let range = v1::value::Range { begin: u64::MAX, end: 0 };
        assert_eq!(to_string(&range), r#"{"begin":18446744073709551615,"end":0}"#);
        let scalar = |value: f64| to_string(&v1::value::Scalar { value });
        assert_eq!(scalar(1.0), r#"{"value":1.0}"#);
        assert_eq!(scalar(0.1), r#"{"value":0.1}"#);
        assert_eq!(scalar(f64::INFINITY), r#"{"value":"Infinity"}"#);
        assert_eq!(scalar(f64::NEG_INFINITY), r#"{"value":"-Infinity"}"#);
        assert_eq!(scalar(f64::NAN), r#"{"value":"NaN"}"#);
    }

    #[test]
    fn a_number_without_a_name_is_left_out() {
        let call = Call { r#type: Some(4711), ..Default::default() };
        assert_eq!(to_string(&call), "{}");
        let linux = v1::CapabilityInfo { capabilities: vec![4711, 1000] };
        assert_eq!(to_string(&linux), r#"{"capabilities":["CHOWN"]}"#);
    }

    #[test]
    fn strings_are_escaped_and_lines_not_broken() {
        let label = v1::Label { key: "\"\\\n\u{1}\u{2028}é".to_owned(), value: None };
        assert_eq!(to_string(&label), "{\"key\":\"\\\"\\\\\\n\\u0001\u{2028}é\"}");
    }

    #[test]
    fn an_empty_list_is_left_out_and_an_empty_message_is_not() {
        let call = Call { suppress: Some(call::Suppress::default()), ..Default::default() };
        assert_eq!(to_string(&call), r#"{"suppress":{}}"#);
    }
}

#[test]
fn memory_is_bounded_before_it_is_taken() {
    let limit = crate::MAX_DECODED_BYTES;
    // Three characters of text each, and in memory as large as any operation.
    let operations = limit / size_of::<crate::v1::offer::Operation>() + 1;
    let text = format!(
        r#"{{"type":"ACCEPT","accept":{{"operations":[{}{{}}]}}}}"#,
        "{},".repeat(operations)
    );
    let error = from_slice::<crate::v1::scheduler::Call>(text.as_bytes()).unwrap_err();
    assert_eq!(error, JsonError::TooLarge { limit });
    // What is not even looked at takes memory, too.
    let ignored =
        format!(r#"{{"x":[{}0]}}"#, "0,".repeat(limit / size_of::<super::tree::Json<'_>>()));
    let error = from_slice::<crate::v1::scheduler::Call>(ignored.as_bytes()).unwrap_err();
    assert_eq!(error, JsonError::TooLarge { limit });
    // A text within a text is no way around it.
    let error = from_slice::<crate::v1::scheduler::Call>(
        format!(
            r#"{{"accept":{{"filters":{{"refuse_seconds":"[{}0]"}}}}}}"#,
            "0,".repeat(10_000_000)
        )
        .as_bytes(),
    );
    assert!(matches!(error, Err(JsonError::Mismatch { .. })), "{error:?}");
}
