//! Single values: form, bounds, and everything that is wrong at once.

use super::*;

#[test]
fn unknown_keys_and_wrong_types_are_refused_with_key_line_and_what_is_allowed() {
    for (from, to, key, told) in [
        (
            "[handshake]",
            "colour = 1\n[handshake]",
            "flows.colour",
            "unknown field `colour`, expected one of `capacity`",
        ),
        ("port = 80", "port = \"80\"", "vip[0].port", "invalid type: string \"80\", expected a whole number"),
        (
            "port = 80",
            "prot = 80",
            "vip[0].prot",
            "unknown field `prot`, expected one of `name`, `address`, `port`, `inspect`",
        ),
        ("[[vip]]", "[[vips]]", "vips", "unknown field `vips`, expected one of `switch`, `dpdk`"),
        ("[control]", "[control", "", "unclosed table"),
    ] {
        let text = changed(from, to);
        let line = 1 + text
            .lines()
            .position(|line| to.starts_with(line) && !line.is_empty())
            .expect("just put there");
        match parse(&text) {
            Err(error @ ConfigError::Form { .. }) => {
                let expected = match key {
                    "" => format!("switch.toml: line {line}: `{to}`: {told}"),
                    key => format!("switch.toml: {key} (line {line}): {told}"),
                };
                assert!(error.to_string().starts_with(&expected), "{error}\nexpected: {expected}");
            }
            other => panic!("{to}: {other:?}"),
        }
    }
}

#[test]
fn all_keys_that_are_needed_and_missing_are_told_at_once() {
    let bare = "[[vip]]\n[[backend]]\n[[pool]]\n[[rule]]\n";
    let told = faults(bare);
    let keys: Vec<&str> =
        told.iter().filter_map(|fault| fault.split_once(": missing; ")).map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        [
            "switch.address",
            "dpdk.device",
            "control.listen",
            "vip[0].name",
            "backend[0].name",
            "pool[0].name",
            "vip[0].port",
            "vip[0].address",
            "backend[0].address",
            "pool[0].backends",
            "rule[0].pool",
        ]
    );
    assert_eq!(keys.len(), told.len(), "{told:#?}");
    let without_port = faults(&changed("port = 80\n", ""));
    assert_eq!(without_port, ["vip[0].port: missing; allowed are 1 to 65535"]);
}

#[test]
fn each_value_out_of_bounds_is_one_fault_naming_key_value_and_bounds() {
    for (from, to, expected) in [
        (
            "address = \"10.60.0.1/24\"",
            "address = \"10.60.0.1\"",
            "switch.address = \"10.60.0.1\": address and prefix are needed, such as \"10.60.0.1/24\"",
        ),
        (
            "address = \"10.60.0.1/24\"",
            "address = \"10.60.0.1/33\"",
            "switch.address = \"10.60.0.1/33\": the prefix must be 1 to 31",
        ),
        (
            "address = \"10.60.0.1/24\"",
            "address = \"10.60.0.999/24\"",
            "switch.address = \"10.60.0.999/24\": an IPv4 address such as \"10.60.0.1/24\" is needed",
        ),
        (
            "address = \"10.60.0.1/24\"",
            "address = \"10.60.0.0/24\"",
            "switch.address = \"10.60.0.0/24\": this is the network's own",
        ),
        (
            "address = \"10.60.0.1/24\"",
            "address = \"fd00::1/64\"",
            "switch.address = \"fd00::1/64\": IPv6 is not supported on the data network yet",
        ),
        (
            "gateway = \"10.60.0.254\"",
            "gateway = \"10.61.0.254\"",
            "switch.gateway = \"10.61.0.254\": a host's address on the switch's own network, 10.60.0.1/24",
        ),
        (
            "gateway = \"10.60.0.254\"",
            "gateway = \"10.60.0.1\"",
            "switch.gateway = \"10.60.0.1\": this is the switch's own address",
        ),
        (
            "gateway = \"10.60.0.254\"",
            "",
            "backend[2].address = \"10.61.0.13\": not on the switch's own network (switch.address), and there is no switch.gateway",
        ),
        (
            "device = \"net_af_packet0,iface=data0\"",
            "device = \"eth0\"",
            "dpdk.device = \"eth0\": expected a full PCI address",
        ),
        ("# mtu = 1500", "mtu = 9000", "dpdk.mtu = 9000: allowed are 660 to 1850"),
        ("# mtu = 1500", "mtu = 600", "dpdk.mtu = 600: allowed are 660 to 1850"),
        ("# mtu = 1500", "mtu = 70000", "dpdk.mtu = 70000: allowed are 660 to 1850"),
        ("# lcores = [1]", "lcores = [1, 1]", "dpdk.lcores = [1, 1]"),
        ("# lcores = [1]", "lcores = [1, -1]", "dpdk.lcores[1] = -1: allowed are 0 to 1023"),
        ("# idle = \"nap\"", "idle = \"sleep\"", "dpdk.idle = \"sleep\": allowed are \"nap\" and \"spin\""),
        (
            "# rx_descriptors = 1024",
            "rx_descriptors = 1",
            "dpdk.rx_descriptors = 1: allowed are 128 to 16384",
        ),
        (
            "listen = \"10.70.0.1:7170\"",
            "listen = \"10.70.0.1\"",
            "control.listen = \"10.70.0.1\": an address with a port",
        ),
        (
            "# metrics = \"127.0.0.1:9170\"",
            "metrics = \"0.0.0.0:7170\"",
            "control.metrics = \"0.0.0.0:7170\": agents use this port",
        ),
        (
            "# admin_socket = \"/run/baton/switch.sock\"",
            "admin_socket = \"switch.sock\"",
            "control.admin_socket = \"switch.sock\": an absolute path",
        ),
        ("# capacity = 65536", "capacity = 15", "flows.capacity = 15: allowed are 16 to 16777216"),
        (
            "# closing_timeout_s = 60",
            "closing_timeout_s = 0",
            "flows.closing_timeout_s = 0: allowed are 1 to 86400",
        ),
        ("# window_scale = 7", "window_scale = 15", "handshake.window_scale = 15: allowed are 0 to 14"),
        (
            "# unfinished_count_max = 1024",
            "unfinished_count_max = 0",
            "requests.unfinished_count_max = 0: allowed are 1 to 65535",
        ),
        ("port = 80", "port = 65536", "vip[0].port = 65536: allowed are 1 to 65535"),
        (
            "address = \"10.60.0.100\"",
            "address = \"224.0.0.1\"",
            "vip[0].address = \"224.0.0.1\": a host's own address is needed",
        ),
        (
            "address = \"10.60.0.100\"",
            "address = \"fd00::100\"",
            "vip[0].address = \"fd00::100\": IPv6 is not supported on the data network yet",
        ),
        (
            "address = \"10.60.0.100\"",
            "address = \"10.60.0.1\"",
            "vip[0].address = \"10.60.0.1\": this is the switch's own address",
        ),
        (
            "address = \"10.60.0.100\"",
            "address = \"10.60.0.255\"",
            "vip[0].address = \"10.60.0.255\": this is the data network's own or its broadcast address",
        ),
        (
            "address = \"10.60.0.11\"",
            "address = \"10.60.0.100\"",
            "backend[0].address = \"10.60.0.100\": this is the address of VIP \"web\"",
        ),
        (
            "address = \"10.60.0.12\"",
            "address = \"10.60.0.11\"",
            "backend[1].address = \"10.60.0.11\": backend \"backend1\" has this address already",
        ),
        (
            "address = \"10.60.0.12\"",
            "address = \"10.60.0.254\"",
            "backend[1].address = \"10.60.0.254\": this is the gateway's address",
        ),
        (
            "[[pool]]",
            "[[backend]]\nname = \"backend1\"\naddress = \"10.60.0.13\"\n\n[[pool]]",
            "backend[3].name = \"backend1\": backend[0] has this name already",
        ),
        (
            "[[pool]]",
            "[[backend]]\nname = \"a web\"\naddress = \"10.60.0.13\"\n\n[[pool]]",
            "backend[3].name = \"a web\": 1 to 64 letters",
        ),
        (
            "backends = [\"backend3\"]",
            "backends = [\"backend9\"]",
            "pool[1].backends[0] = \"backend9\": no [[backend]] has this name; there are backend1, backend2, backend3",
        ),
        (
            "backends = [\"backend3\"]",
            "backends = [\"backend3\", \"backend3\"]",
            "pool[1].backends[1] = \"backend3\": this backend is in the pool already",
        ),
        (
            "backends = [\"backend3\"]",
            "backends = []",
            "pool[1].backends = []: at least one backend is needed",
        ),
        (
            "# policy = \"round-robin\"",
            "policy = \"random\"",
            "pool[0].policy = \"random\": allowed are \"round-robin\", \"weighted-round-robin\"",
        ),
        ("host = \"video.example.org\"", "host = \"http://x\"", "rule[0].host = \"http://x\": a host name"),
        ("host = \"video.example.org\"", "host = \"x:80\"", "rule[0].host = \"x:80\": a host name"),
        (
            "path_prefix = \"/video/\"",
            "path_prefix = \"video/\"",
            "rule[1].path_prefix = \"video/\": a path as it stands in requests is needed: starting with '/'",
        ),
        ("path_prefix = \"/video/\"", "path_prefix = \"/a?b\"", "rule[1].path_prefix = \"/a?b\": a path"),
        (
            "path_prefix = \"/video/\"",
            "path_prefix = \"/a\"\npath_exact = \"/a\"",
            "rule[1].path_prefix = \"/a\": a rule has one path condition, and this one has path_exact already",
        ),
        (
            "path_suffix = \".mp4\"\npool = \"video\"",
            "path_suffix = \".mp4\"\npool = \"films\"",
            "rule[2].pool = \"films\": no [[pool]] has this name; there are files, video",
        ),
    ] {
        let told = faults(&changed(from, to));
        assert!(
            told.len() == 1 && told[0].starts_with(expected),
            "{to}\n told: {told:#?}\n want: {expected}"
        );
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let text = changed("port = 80", "port = 0")
        .replace("# mtu = 1500", "mtu = 9000")
        .replace("# lcores = [1]", "lcores = [1, 1]")
        .replace("# idle = \"nap\"", "idle = \"sleep\"")
        .replace("# capacity = 65536", "capacity = -1")
        .replace("# window_scale = 7", "window_scale = 99")
        .replace("[\"backend1\", \"backend2\"]", "[\"b\", \"c\"]");
    let told = faults(&text);
    let keys: Vec<&str> = told.iter().filter_map(|fault| fault.split([' ', ':']).next()).collect();
    let expected = [
        "dpdk.idle",
        "dpdk.mtu",
        "dpdk.lcores",
        "flows.capacity",
        "handshake.window_scale",
        "vip[0].port",
        "pool[0].backends[0]",
        "pool[0].backends[1]",
    ];
    assert_eq!(keys, expected, "{told:#?}");
    let Err(error) = parse(&text) else { panic!("accepted") };
    assert!(error.to_string().lines().all(|line| line.starts_with("switch.toml: ")), "{error}");
}

#[test]
fn error_pages_are_read_and_checked() {
    let page = |text: &str| [EXAMPLE, "[[error_page]]\n", text].concat();
    let good = page(
        "status = 503\nfile = \"16384\"\ncontent_type = \"text/plain\"\n[[error_page]]\nstatus = 400\nfile = \"0\"\n",
    );
    let pages = parse(&good).expect("valid").catalog.error_pages.clone();
    let [bad_request, None, None, Some(unavailable)] = &pages.bodies else { panic!("{pages:?}") };
    assert_eq!((unavailable.content_type.as_str(), unavailable.bytes.len()), ("text/plain", 16_384));
    assert_eq!(bad_request.as_ref().map(|page| page.content_type.as_str()), Some("text/html; charset=utf-8"));
    for (text, told) in [
        ("status = 404\nfile = \"1\"", "error_page[0].status = 404: allowed are 400, 408, 431, 503"),
        ("file = \"1\"", "error_page[0].status: missing; allowed are 400, 408, 431, 503"),
        ("status = 400", "error_page[0].file: missing; the path of the page's body is needed"),
        (
            "status = 400\nfile = \"16385\"",
            "error_page[0].file = \"16385\": longer than the 16384 bytes allowed",
        ),
        (
            "status = 400\nfile = \"absent\"",
            "error_page[0].file = \"absent\": cannot be read: entity not found",
        ),
        (
            "status = 400\nfile = \"1\"\ncontent_type = \"text/html\\r\\nX: y\"",
            "error_page[0].content_type = \"text/html\\r\\nX: y\": a media type of at most 128 characters",
        ),
        (
            "status = 400\nfile = \"1\"\n[[error_page]]\nstatus = 400\nfile = \"1\"",
            "error_page[1].status = 400: another [[error_page]] has this status already",
        ),
    ] {
        let faults = faults(&page(text));
        assert!(
            faults.len() == 1 && faults[0].starts_with(told),
            "{text}\n told: {faults:#?}\n want: {told}"
        );
    }
}

#[test]
fn a_faulty_key_file_is_a_fault_of_its_key() {
    let fault =
        Config::from_text(EXAMPLE, Path::new("f"), |_| Err(KeyFault::Mode { mode: 0o644 }), read_body);
    let told = fault.expect_err("refused").to_string();
    assert!(
        told.starts_with("f: switch.key_file = \"/etc/baton/keys.toml\": mode 0644 lets others in"),
        "{told}"
    );
}

#[test]
fn missing_sections_are_told() {
    let bare = EXAMPLE.split("# What clients connect to").next().expect("the head");
    let expected =
        ["vip", "backend", "pool", "rule"].map(|name| format!("[[{name}]]: at least one is needed"));
    assert_eq!(faults(bare), expected);
}
