import Foundation
import Testing

@testable import ReloadAMQP

@Suite(.timeLimit(.minutes(5))) struct MailboxTests {
    @Test func onlyTheFirstElementWakes() throws {
        let wake = try WakeDescriptor()
        let mailbox = Mailbox<Int>(wake: wake)
        #expect(!wake.wait(.zero))
        mailbox.append(1)
        #expect(wake.wait(.zero))
        wake.clear()
        mailbox.append(2)
        #expect(!wake.wait(.zero))
        #expect(mailbox.takeAll() == [1, 2])
        #expect(mailbox.isEmpty)
        #expect(mailbox.takeAll() == [])
        mailbox.append(3)
        #expect(wake.wait(.zero))
    }

    @Test func nothingIsLostBetweenThreads() throws {
        let wake = try WakeDescriptor()
        let mailbox = Mailbox<Int>(wake: wake)
        for part in 0..<4 {
            Thread { for number in 0..<1000 { mailbox.append(part * 1000 + number) } }.start()
        }
        var taken: [Int] = []
        while taken.count < 4000, wake.wait(.seconds(60)) {
            // This order is what keeps a wake-up from being lost.
            wake.clear()
            taken += mailbox.takeAll()
        }
        #expect(taken.sorted() == Array(0..<4000))
    }
}
