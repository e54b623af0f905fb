//! Peers with a kernel of their own that has PPP: real pppd with MS-CHAPv2 and MPPE-128, in User Mode Linux.
//!
//! A guest boots with the host's files as its read-only root; one directory is writable and the same on both sides.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::pptpd::inner_address;
use crate::lab::node::{Node, run};
use crate::lab::process::Process;
use crate::wait;

/// How long a guest may take to boot and to be up.
const BOOT: Duration = Duration::from_secs(90);

/// A library for a guest kernel on a CPU with AMX: without it Debian 12's User Mode Linux (6.1) ends as soon as `init` runs.
const REGISTERS: &str = include_str!("uml_registers.c");

/// A running guest.
#[derive(Debug)]
pub struct Guest {
    process: Process,
    dir: PathBuf,
}

/// How a guest is reached.
#[derive(Debug, Clone, Copy)]
pub struct Network {
    /// Its address.
    pub address: Ipv4Addr,
    /// Prefix length.
    pub bits: u8,
    /// Its default gateway.
    pub via: Ipv4Addr,
}

impl Guest {
    /// Boots a server: pptpd with pppd that asks for MS-CHAPv2 and MPPE-128. Returns when it listens.
    ///
    /// # Errors
    /// If it does not boot or listen in time.
    pub fn server(node: &Node, network: Network) -> anyhow::Result<Self> {
        let options = "name office\nrefuse-pap\nrefuse-chap\nrefuse-mschap\nrequire-mschap-v2\nrequire-mppe-128\nnoipv6\nnobsdcomp\nnodeflate\nlock\nmtu 1400\nmru 1400\n";
        let script = format!(
            "cat > /etc/ppp/pptpd-options <<'E'\n{options}E\n\
             echo 'till office secret *' > /etc/ppp/chap-secrets\n\
             printf 'option /etc/ppp/pptpd-options\\nlocalip {}\\nremoteip 10.99.1.2-250\\n' > /run/pptpd.conf\n\
             pptpd -f -c /run/pptpd.conf -p /run/pptpd.pid &\n\
             while ! ss -Hltn sport = :1723 | grep -q 1723; do sleep 0.1; done\n\
             echo listening > \"$SHARE/state\"; sync\n\
             while true; do sleep 1; done\n",
            inner_address(0)
        );
        let guest = Self::boot(node, network, &script)?;
        guest.wait_state("listening")?;
        Ok(guest)
    }

    /// Boots a client that dials `server`, and pings through the tunnel `count` times, five a second. Returns at once.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn client(node: &Node, network: Network, server: Ipv4Addr, count: u32) -> anyhow::Result<Self> {
        let script = format!(
            "echo 'till office secret *' > /etc/ppp/chap-secrets\n\
             pppd pty 'pptp {server} --nolaunchpppd --nohostroute' user till remotename office nodetach noauth \
             refuse-pap refuse-eap refuse-chap refuse-mschap require-mppe-128 noipv6 nobsdcomp nodeflate nodefaultroute \
             mtu 1400 mru 1400 debug > \"$SHARE/pppd.log\" 2>&1 &\n\
             while ! ip -4 addr show dev ppp0 2>/dev/null | grep -q inet; do sleep 0.1; done\n\
             echo up > \"$SHARE/state\"; sync\n\
             while [ ! -e \"$SHARE/go\" ]; do sleep 0.2; done\n\
             ping -n -q -i 0.2 -W 2 -c {count} {} > \"$SHARE/ping\" 2>&1\n\
             echo pinged > \"$SHARE/state\"; sync\n\
             while true; do sleep 1; done\n",
            inner_address(0)
        );
        Self::boot(node, network, &script)
    }

    /// Waits until the tunnel is up.
    ///
    /// # Errors
    /// After 90 s, with pppd's log.
    pub fn wait_up(&self) -> anyhow::Result<()> {
        self.wait_state("up")
    }

    /// Lets the pings begin.
    ///
    /// # Errors
    /// If the shared directory cannot be written.
    pub fn go(&self) -> anyhow::Result<()> {
        Ok(fs::write(self.dir.join("go"), "")?)
    }

    /// What the pings gave, and whether pppd said that MPPE-128 is on.
    ///
    /// # Errors
    /// If they do not end.
    pub fn pinged(&self) -> anyhow::Result<(crate::lab::ping::Pinged, bool)> {
        self.wait_state("pinged")?;
        let pinged = crate::lab::ping::parse(&fs::read_to_string(self.dir.join("ping"))?)?;
        let log = fs::read_to_string(self.dir.join("pppd.log"))?;
        Ok((pinged, log.contains("MPPE 128-bit")))
    }

    fn wait_state(&self, wanted: &str) -> anyhow::Result<()> {
        let state = self.dir.join("state");
        let told = || fs::read_to_string(self.dir.join("pppd.log")).unwrap_or_default();
        let result = wait::until_true(&format!("guest is {wanted}"), BOOT, || {
            Ok(fs::read_to_string(&state).unwrap_or_default().trim() == wanted)
        });
        result.with_context(|| format!("{}\n{}", self.process.tail(20), told()))
    }

    fn boot(node: &Node, network: Network, script: &str) -> anyhow::Result<Self> {
        let dir = node.dir.join("guest");
        fs::create_dir_all(&dir)?;
        let share = dir.display();
        let mut init = format!(
            "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin SHARE={share}\n\
             mount -t proc proc /proc\nmount -t sysfs sys /sys\nmount -t devtmpfs dev /dev\nmkdir -p /dev/pts\n\
             mount -t devpts devpts /dev/pts\nmount -t tmpfs run /run\nmount -t tmpfs ppp /etc/ppp\n\
             mount -t hostfs none {share} -o {share}\n\
             mkdir -p /run/m/lib/modules /run/lock\nln -s /usr/lib/uml/modules/$(uname -r) /run/m/lib/modules/$(uname -r)\n\
             modprobe -a -d /run/m ppp_async ppp_mppe ppp_generic\nip link set lo up\n"
        );
        let Network { address, bits, via } = network;
        let _ = write!(
            init,
            "ip addr add {address}/{bits} dev vec0\nip link set vec0 up\nip route add default via {via}\n{script}"
        );
        let path = dir.join("init.sh");
        fs::write(&path, init)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        ensure!(
            PathBuf::from("/usr/bin/linux.uml").exists(),
            "linux.uml is not there: apt-get install user-mode-linux"
        );
        let mut command = node.command("/usr/bin/linux.uml");
        command.args([
            "mem=128M",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "con=null",
            "con0=null,fd:1",
            "quiet",
        ]);
        command
            .arg(format!("init={}", path.display()))
            .arg(format!("uml_dir={share}"))
            .arg(format!("umid={}", node.name));
        command.arg("vec0:transport=raw,ifname=eth0,depth=128,gro=0").env("TMPDIR", "/dev/shm");
        if fs::read_to_string("/proc/cpuinfo")?.contains(" amx_tile") {
            command.env("LD_PRELOAD", registers(&dir)?);
        }
        let process = node.spawn("uml", command)?;
        Ok(Self { process, dir })
    }
}

/// Makes the library; its path.
fn registers(dir: &Path) -> anyhow::Result<PathBuf> {
    let (source, library) = (dir.join("registers.c"), dir.join("registers.so"));
    fs::write(&source, REGISTERS)?;
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]);
    run(&mut cc).context("a library that User Mode Linux needs on this CPU")?;
    Ok(library)
}
