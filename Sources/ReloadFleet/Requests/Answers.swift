public import ReloadProtocol

/// How the fleet answers one request. A pure fold over reports; the order does not matter, nor do repetitions.
public struct Answers: Sendable {
    /// When a request counts as answered.
    public enum Goal: Sendable, Equatable {
        /// Every one of these has answered.
        case all(Set<Instance>)
        /// This many have answered, whoever they are.
        case count(Int)
    }

    /// The last word of one instance.
    public struct Answer: Sendable, Equatable {
        /// What became of the request there.
        public var state: ReportState
        /// `ok`, or why not.
        public var code: ReloadCode
        /// The same for people.
        public var message: String
        /// When it was given, by the instance's clock; RFC 3339, UTC.
        public var at: String
        /// The login of who gave it, as the broker checked it.
        public var user: String?
    }

    /// `message_id` of the request.
    public let request: String
    /// Whose answers count; nil for everybody's.
    public let destination: Destination?
    /// When it counts as answered.
    public let goal: Goal
    /// Who has answered, and what.
    public private(set) var given: [Instance: Answer] = [:]
    /// Have begun, and not answered.
    public private(set) var applying: Set<Instance> = []
    /// Said goodbye before they answered.
    public private(set) var gone: Set<Instance> = []

    /// Nobody has answered yet.
    public init(request: String, to destination: Destination? = nil, goal: Goal) {
        self.request = request
        self.destination = destination
        self.goal = goal
    }

    /// Takes a report; returns who answered if it is an answer that was not known.
    public mutating func fold(_ report: Report) -> Instance? {
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

    /// Whether the goal is reached.
    public var isComplete: Bool {
        switch goal {
        case .all(let instances): instances.allSatisfy { given[$0] != nil }
        case .count(let count): given.count >= count
        }
    }

    /// Whether this instance is one of the goal; anybody is where only a number is waited for.
    public func isExpected(_ instance: Instance) -> Bool {
        guard case .all(let instances) = goal else { return true }
        return instances.contains(instance)
    }

    /// How many answers the goal asks for.
    public var awaited: Int {
        switch goal {
        case .all(let instances): instances.count
        case .count(let count): count
        }
    }

    /// Those of the goal that have not answered; nobody in particular when only a number is waited for.
    public var silent: [Instance] {
        guard case .all(let instances) = goal else { return [] }
        return instances.filter { given[$0] == nil }.sorted()
    }
}

extension Answers {
    /// The lists of the end, in the order in which they are shown.
    public enum Outcome: String, Sendable, CaseIterable {
        case applied, failed, refused, superseded
        case noResponse = "no_response"
        case unexpected
    }

    /// The list an instance belongs to, or nil while it is still awaited.
    public func outcome(of instance: Instance) -> Outcome? {
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
    public func members(of outcome: Outcome) -> [Instance] {
        guard outcome != .noResponse else { return silent }
        return given.keys.filter { self.outcome(of: $0) == outcome }.sorted()
    }

    /// How many answers are missing, known by name or not.
    public var missing: Int {
        guard case .count(let count) = goal else { return silent.count }
        return max(0, count - given.count)
    }
}
