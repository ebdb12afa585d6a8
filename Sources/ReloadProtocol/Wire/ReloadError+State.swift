extension ReloadError {
    /// Refused before anything was tried, or failed when it was tried: the state the report bears.
    package var state: ReportState {
        let tried = ["plugin", "handler", "state"].contains(code.area)
        if code == .messageExpired { return .expired }
        return tried ? .failed : .refused
    }
}
