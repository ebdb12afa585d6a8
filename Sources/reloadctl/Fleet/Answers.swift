internal import ReloadCore

/// How the fleet answers one request. A pure fold over reports; the order does not matter, nor do repetitions.
struct Answers {
    /// When a request counts as answered.
    enum Goal: Equatable {
        /// Every one of these has answered.
        case all(Set<Instance>)
        /// This many have answered, whoever they are.
        case count(Int)
    }

    /// The last word of one instance.
    struct Answer: Equatable {
        var state: ReportState
        var code: ReloadCode
        var message: String
        var at: String
        /// The login of who gave it, as the broker checked it.
        var user: String?
    }

    let request: String
    /// Whose answers count; nil for everybody's.
    let destination: Destination?
    let goal: Goal
    private(set) var given: [Instance: Answer] = [:]
    /// Have begun, and not answered.
    private(set) var applying: Set<Instance> = []
    /// Said goodbye before they answered.
    private(set) var gone: Set<Instance> = []

    init(request: String, to destination: Destination? = nil, goal: Goal) {
        self.request = request
        self.destination = destination
        self.goal = goal
    }

    /// Takes a report; returns who answered if it is an answer that was not known.
    mutating func fold(_ report: Report) -> Instance? {
        guard let sender = report.sender, given[sender] == nil else { return nil }
        // Others can only have got something else under this id.
        guard destination?.matches(service: sender.service, instance: sender.name) ?? true else { return nil }
        let answer: Answer
        if report.request == request {
            guard report.state.isFinal else {
                applying.insert(sender)
                return nil
            }
            answer = Answer(
                state: report.state, code: report.code, message: report.message, at: report.at, user: report.user)
        } else if report.superseded?.contains(request) == true {
            // A report may itself be of one that was superseded, and speak for others of its kind.
            let newer = report.state == .superseded ? nil : report.request
            let message = newer.map { "request \($0) took its place" } ?? ""
            answer = Answer(state: .superseded, code: .ok, message: message, at: report.at, user: report.user)
        } else {
            if report.state == .offline { gone.insert(sender) } else { gone.remove(sender) }
            return nil
        }
        given[sender] = answer
        applying.remove(sender)
        gone.remove(sender)
        return sender
    }

    var isComplete: Bool {
        switch goal {
        case .all(let instances): instances.allSatisfy { given[$0] != nil }
        case .count(let count): given.count >= count
        }
    }

    func isExpected(_ instance: Instance) -> Bool {
        guard case .all(let instances) = goal else { return true }
        return instances.contains(instance)
    }

    /// How many answers the goal asks for.
    var awaited: Int {
        switch goal {
        case .all(let instances): instances.count
        case .count(let count): count
        }
    }

    /// Those of the goal that have not answered; nobody in particular when only a number is waited for.
    var silent: [Instance] {
        guard case .all(let instances) = goal else { return [] }
        return instances.filter { given[$0] == nil }.sorted()
    }
}

extension Answers {
    /// The lists of the end, in the order in which they are shown.
    enum Outcome: String, CaseIterable {
        case applied, failed, refused, superseded
        case noResponse = "no_response"
        case unexpected
    }

    /// The list an instance belongs to, or nil while it is still awaited.
    func outcome(of instance: Instance) -> Outcome? {
        guard let answer = given[instance] else { return nil }
        guard isExpected(instance) else { return .unexpected }
        switch answer.state {
        case .applied, .unchanged, .validated: return .applied
        case .refused, .expired: return .refused
        case .superseded: return .superseded
        case .failed, .rolledBack, .applying, .online, .offline: return .failed
        }
    }

    /// Everyone in a list.
    func members(of outcome: Outcome) -> [Instance] {
        guard outcome != .noResponse else { return silent }
        return given.keys.filter { self.outcome(of: $0) == outcome }.sorted()
    }

    /// How many answers are missing, known by name or not.
    var missing: Int {
        guard case .count(let count) = goal else { return silent.count }
        return max(0, count - given.count)
    }
}
