//! Which kind of content a file has, by its name.

/// Kinds and their extensions, in Mesos' terms (`3rdparty/libprocess/src/mime.cpp`): those that files of tasks have.
const KINDS: [(&str, &[&str]); 34] = [
    ("application/msword", &["doc", "dot"]),
    ("application/pdf", &["pdf"]),
    ("application/pkcs7-mime", &["p7c"]),
    ("application/postscript", &["ai", "eps", "ps"]),
    ("application/vnd.ms-excel", &["xls"]),
    ("application/vnd.ms-powerpoint", &["pot", "ppa", "pps", "ppt"]),
    ("application/x-cpio", &["cpio"]),
    ("application/x-csh", &["csh"]),
    ("application/x-hdf", &["hdf"]),
    ("application/x-javascript", &["js"]),
    ("application/x-netcdf", &["cdf", "nc"]),
    ("application/x-pkcs12", &["p12", "pfx"]),
    ("application/x-python-code", &["pyc", "pyo"]),
    ("application/x-sh", &["sh"]),
    ("application/x-tar", &["tar"]),
    ("application/x-tcl", &["tcl"]),
    ("application/x-tex", &["tex"]),
    ("application/xml", &["rdf", "wsdl", "xpdl", "xsl"]),
    ("application/zip", &["zip"]),
    ("audio/mpeg", &["mp2", "mp3"]),
    ("audio/x-wav", &["wav"]),
    ("image/gif", &["gif"]),
    ("image/jpeg", &["jpe", "jpeg", "jpg"]),
    ("image/png", &["png"]),
    ("image/tiff", &["tif", "tiff"]),
    ("image/x-ms-bmp", &["bmp"]),
    ("text/css", &["css"]),
    ("text/html", &["htm", "html"]),
    ("text/plain", &["bat", "c", "h", "ksh", "pl", "txt"]),
    ("text/tab-separated-values", &["tsv"]),
    ("text/x-python", &["py"]),
    ("text/xml", &["xml"]),
    ("video/mp4", &["mp4"]),
    ("video/mpeg", &["m1v", "mpa", "mpe", "mpeg", "mpg"]),
];

/// Of a file of that name: bytes, if nothing more is known.
pub(super) fn of(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let known = KINDS.iter().find(|(_, extensions)| extensions.contains(&extension));
    known.map_or("application/octet-stream", |(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn extensions_decide() {
        assert_eq!(of("notes.txt"), "text/plain");
        assert_eq!(of("a.b.html"), "text/html");
        assert_eq!(of(".py"), "text/x-python");
        for unknown in ["stdout", "stdout.1", "x.TXT", "core.so", "", "txt", "x."] {
            assert_eq!(of(unknown), "application/octet-stream", "{unknown}");
        }
    }
}
