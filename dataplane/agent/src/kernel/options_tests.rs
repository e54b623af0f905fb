//! Every flag that could clash is refused with its name and a remedy.

use super::*;

/// But for these.
fn local(reserved: &str) -> LocalPorts {
    let reserved = if reserved.is_empty() { PortRanges(vec![]) } else { reserved.parse().unwrap() };
    LocalPorts { range: PortRange { first: 32768, last: 60999 }, reserved }
}

fn checked(edit: impl FnOnce(&mut Options), local: &LocalPorts) -> Result<(), OptionError> {
    let mut options = Options::default();
    edit(&mut options);
    options.validate().and_then(|()| options.keep_off(local))
}

fn refused(edit: impl FnOnce(&mut Options)) -> String {
    checked(edit, &local("")).unwrap_err().to_string()
}

#[test]
fn the_defaults_fit_a_host_with_default_sysctls() {
    assert_eq!(checked(|_| {}, &local("")), Ok(()));
}

#[test]
fn marks_must_be_ours_alone() {
    assert_eq!(
        refused(|o| o.steer = "0x4000".parse().unwrap()),
        "--steer-mark 0x4000/0x4000: shares bits 0x4000 with kube-proxy (masquerade); \
         choose bits from 0xffe00000, of which no known CNI uses any"
    );
    assert_eq!(
        refused(|o| o.sent = o.steer),
        "--sent-mark 0x200000/0x200000: shares bits with --steer-mark 0x200000/0x200000; choose other bits for one of them"
    );
    assert_eq!(
        refused(|o| o.sent = MarkBits { value: 0x80_0000, mask: 0x40_0000 }),
        "--sent-mark 0x800000/0x400000: the value must be non-zero and inside its mask; write VALUE/MASK"
    );
    for mask in [0, 0xff00_0000, 0xfff0_0000, 0xffd0_0000] {
        assert_eq!(
            refused(|o| o.tag_mask = mask),
            format!("--tag-mask {mask:#x}: must be 11 bits in a row; for instance 0xffe00000")
        );
    }
}

#[test]
fn routing_and_names_must_be_free() {
    assert_eq!(
        refused(|o| o.route_table = 254),
        "--route-table 254: it or the one behind it, which is ours too, belongs to the kernel; choose any other, such as 7411"
    );
    assert_eq!(
        refused(|o| o.rule_priority = 32766),
        "--rule-priority 32766: must come after table local (0) and before table main (32766); choose 5 to 32765, such as 95"
    );
    assert_eq!(
        refused(|o| o.tap_link = "a-name-too-long-".into()),
        "--tap-link a-name-too-long-: is not a link name of 1 to 15 letters, digits, '-', '_' or '.'; \
         choose one, such as callgate0"
    );
    assert_eq!(
        refused(|o| o.tap_link = "callgate0".into()),
        "--tap-link callgate0: is also --steer-link; name the two ends differently"
    );
    assert_eq!(
        refused(|o| o.nft_table = "7".into()),
        "--nft-table 7: is not a table name: a letter, then letters, digits or '_', 31 at most; choose one, such as callgate"
    );
}

#[test]
fn external_ports_keep_off_the_hosts_own() {
    assert_eq!(
        refused(|o| o.external_ports = "20000-40000".parse().unwrap()),
        "--external-ports 20000-40000: 20000-40000 overlaps net.ipv4.ip_local_port_range 32768-60999, \
         whose ports the host's own connections use; choose ranges outside it, narrow that sysctl, or add \
         32768-40000 to net.ipv4.ip_local_reserved_ports, which keeps those connections off"
    );
    assert_eq!(
        refused(|o| o.external_ports = "80-90".parse().unwrap()),
        "--external-ports 80-90: 80-90 reaches into the privileged ports; begin at 1024 or above"
    );
}

#[test]
fn ports_that_are_reserved_are_not_the_hosts_own() {
    let overlaps = |reserved| {
        checked(|o| o.external_ports = "20000-40000,60000-65535".parse().unwrap(), &local(reserved)).is_err()
    };
    assert!(!overlaps("32768-40000,60000-60999"));
    assert!(!overlaps("80,30000-35000,35001-45000,50000-65535"));
    for reserved in
        ["32768-39999,60000-60999", "32769-40000,60000-60999", "32768-40000", "32768-35000,35002-40000,60000-60999"]
    {
        assert!(overlaps(reserved), "{reserved}");
    }
}

#[test]
fn flags_are_read_as_they_are_printed() {
    let ranges: PortRanges = "61000-65535, 2000,10000-29999".parse().unwrap();
    assert_eq!(ranges.to_string(), "2000,10000-29999,61000-65535");
    assert_eq!("0x400000/0x400000".parse::<MarkBits>().unwrap().to_string(), "0x400000/0x400000");
    assert_eq!("10-5".parse::<PortRanges>().unwrap_err(), "\"10-5\" ends before it begins");
    assert_eq!("5-10,10-12".parse::<PortRanges>().unwrap_err(), "10-10 is listed twice");
    assert_eq!(parse_u32("0xg").unwrap_err(), "\"0xg\" is not a 32-bit number (write 4194304 or 0x400000)");
}
