//! What taps count, over their whole life and after it.

use std::net::UdpSocket;

use super::*;
use crate::own_network::in_a_network_of_its_own;

/// A host whose only device may vanish.
struct Vanishing(Arc<std::sync::atomic::AtomicBool>);

impl Node for Vanishing {
    fn way(&mut self, _: Ipv4Addr) -> io::Result<Option<Way>> {
        Ok(None)
    }

    fn claim(&mut self, _: &[Ipv4Addr]) -> io::Result<()> {
        Ok(())
    }

    fn index_of(&mut self, _: &str) -> Option<u32> {
        None
    }

    fn exists(&mut self, _: u32) -> bool {
        !self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn what_a_tap_lost_still_counts_when_its_device_is_gone() {
    in_a_network_of_its_own(|| {
        let gone = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut outlets = Outlets::new(Box::new(Vanishing(Arc::clone(&gone))), Vec::new(), Vec::new());
        // Everything on the loopback, and nobody who reads it.
        let all = [crate::sockets::filter::Instruction { code: 0x06, yes: 0, no: 0, k: u32::MAX }];
        outlets.taps.push(Arc::new(Tap::open(1, &all).unwrap()));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        while outlets.overflow() == 0 {
            for _ in 0..1000 {
                // Nobody listens there: the ICMP errors that come back are no failure of the test.
                let _ = socket.send_to(&[0; 1400], "127.0.0.1:9");
            }
        }
        let lost = outlets.overflow();
        gone.store(true, std::sync::atomic::Ordering::Relaxed);
        outlets.refresh();
        assert_eq!((outlets.taps().len(), outlets.overflow() >= lost), (0, true), "{lost} before");
    });
}
