//! What works but is hardly meant.

use super::*;

#[test]
fn what_works_but_is_hardly_meant_is_a_warning() {
    let warnings = |text: &str| -> Vec<String> {
        parse(text).expect("valid").warnings.iter().map(|warning| warning.to_string()).collect()
    };
    let unreachable = [EXAMPLE, "[[rule]]\npath_exact = \"/x\"\npool = \"video\"\n"].concat();
    assert_eq!(
        warnings(&unreachable),
        ["rule[4]: never reached: rule[3] stands before it and takes all its requests"]
    );
    let narrower = changed(
        "[[rule]]\npath_suffix",
        "[[rule]]\nvip = \"web\"\npath_exact = \"/video/a\"\npool = \"files\"\n\n[[rule]]\npath_suffix",
    );
    assert_eq!(
        warnings(&narrower),
        ["rule[2]: never reached: rule[1] stands before it and takes all its requests"]
    );
    let other_case =
        changed("path_prefix = \"/video/\"", "host = \"VIDEO.Example.org.\"\npath_prefix = \"/video/\"");
    assert_eq!(
        warnings(&other_case),
        ["rule[1]: never reached: rule[0] stands before it and takes all its requests"]
    );

    let second_vip = changed(
        "[[backend]]",
        "[[vip]]\nname = \"bare\"\naddress = \"10.60.0.101\"\nport = 80\n\n[[backend]]",
    );
    assert_eq!(warnings(&second_vip), [""; 0], "rules without vip speak of every VIP");
    let ruleless = second_vip
        .replace("[[rule]]\npool", "[[rule]]\nvip = \"web\"\npool")
        .replace("[[rule]]\npath_suffix", "[[rule]]\nvip = \"web\"\npath_suffix");
    assert_eq!(
        warnings(&ruleless),
        ["vip[1] = \"bare\": no [[rule]] speaks of this VIP: all its requests will be refused"]
    );

    let unused = changed("[[pool]]", "[[pool]]\nname = \"spare\"\nbackends = [\"backend1\"]\n\n[[pool]]");
    assert_eq!(warnings(&unused), ["pool[0] = \"spare\": no [[rule]] leads to this pool"]);
    let idle = changed("[\"backend1\", \"backend2\"]", "[\"backend1\"]");
    assert_eq!(warnings(&idle), ["backend[1] = \"backend2\": no [[pool]] has this backend"]);
    let card = changed("net_af_packet0,iface=data0", "0000:3b:00.0");
    assert!(warnings(&card)[0].starts_with("dpdk.hugepages = false: a card on the PCI bus needs"));
    let shared_cpu = changed("# main_lcore = 0", "main_lcore = 1");
    assert!(warnings(&shared_cpu)[0].starts_with("dpdk.main_lcore = 1: this CPU also moves frames"));
}
