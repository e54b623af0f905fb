//! What was made, as an aligned table.

use super::image::Image;
use super::layout::Built;

/// One image's line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) unpacked: u64,
    pub(super) tar: u64,
    pub(super) user: &'static str,
    pub(super) digest: String,
}

impl Row {
    pub(super) fn of(image: &Image, built: &Built) -> Self {
        Self {
            name: image.name,
            unpacked: built.unpacked,
            tar: built.tar.len() as u64,
            user: image.user,
            digest: built.digest.clone(),
        }
    }
}

/// Sizes in MiB with one decimal; the digest short, as people compare them.
pub(super) fn text(rows: &[Row]) -> String {
    let name = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("image".len());
    let mut text = format!("{:name$}  {:>9}  {:>9}  {:11}  digest\n", "image", "files", "tar", "user");
    for row in rows {
        let short: String = row.digest.chars().take("sha256:".len() + 12).collect();
        text += &format!(
            "{:name$}  {:>9}  {:>9}  {:11}  {short}\n",
            row.name,
            mebibytes(row.unpacked),
            mebibytes(row.tar),
            row.user
        );
    }
    text
}

fn mebibytes(octets: u64) -> String {
    let tenths = (octets * 10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_sizes_are_rounded_up() {
        let row = |name, unpacked, tar| Row {
            name,
            unpacked,
            tar,
            user: "0:0",
            digest: format!("sha256:{}", "ab".repeat(32)),
        };
        let expected = "image              files        tar  user         digest\n\
                        short            0.1 MiB    1.0 MiB  0:0          sha256:abababababab\n\
                        a-longer-name  120.0 MiB   12.1 MiB  0:0          sha256:abababababab\n";
        assert_eq!(text(&[row("short", 1, 1 << 20), row("a-longer-name", 120 << 20, (12 << 20) + 1)]), expected);
    }
}
